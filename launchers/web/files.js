// Files for the next question: chosen, dropped or pasted. `element` and `trigger` are Gradio's.

const input = () => element.querySelector("input");
const notes = document.createElement("div");
notes.id = "mr-sending";
notes.setAttribute("role", "status");
element.after(notes);

const note = (text, failed) => {
  const line = document.createElement("p");
  line.textContent = text;
  line.className = failed ? "mr-failed" : "";
  notes.append(line);
  if (failed) setTimeout(() => line.remove(), 8000);
  return line;
};

const send = async (file) => {
  const { root, most, large, sending, failed } = input().dataset;
  if (file.size > Number(most)) return note(large.replace("NAME", () => file.name), true);
  const line = note(`${file.name}: ${sending}`);
  try {
    const answer = await fetch(`${root}/files?name=${encodeURIComponent(file.name)}`, {
      method: "POST",
      headers: { "content-type": "application/octet-stream" },
      body: file,
    });
    const told = await answer.json().catch(() => ({}));
    if (answer.ok) trigger("act", { action: "attach", id: told.id });
    else note(told.error ?? failed, true);
  } catch {
    note(`${failed}: ${file.name}`, true);
  } finally {
    line.remove();
  }
};

const sendAll = async (files) => {
  for (const file of input().multiple ? files : [...files].slice(0, 1)) await send(file);
};

element.addEventListener("click", (event) => {
  if (event.target.closest(".mr-attach")) input().click();
  const id = event.target.closest("[data-id]")?.dataset.id;
  if (id) {
    trigger("act", { action: "remove", id });
    document.querySelector("#mr-box textarea")?.focus();
  }
});

element.addEventListener("change", async (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  await sendAll(files);
  document.querySelector("#mr-box textarea")?.focus();
});

const main = document.getElementById("mr-main");
const holds = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
main?.addEventListener("dragover", (event) => {
  if (holds(event)) event.preventDefault();
});
main?.addEventListener("drop", (event) => {
  if (!holds(event)) return;
  event.preventDefault();
  sendAll(event.dataTransfer.files);
});
document.getElementById("mr-box")?.addEventListener("paste", (event) => {
  const files = event.clipboardData?.files ?? [];
  if (files.length && !event.clipboardData.types.includes("text/plain")) {
    event.preventDefault();
    sendAll(files);
  }
});
