// The list at the side: what is clicked in it is told to the server. `element`, `trigger` and `watch` are Gradio's.

const html = document.documentElement;
const narrow = matchMedia("(max-width: 52rem)");
const tell = (action, data = {}) => trigger("act", { action, ...data });
const nav = () => element.querySelector("nav");
const say = (words) => JSON.parse(nav()?.dataset.words ?? "{}")[words] ?? words;
const row = (node) => node.closest("li[data-id]");

// ---- whether it is open: as it was left; on a phone closed, and over the chat

const setSide = (open) => {
  html.dataset.side = open ? "open" : "closed";
  document.getElementById("mr-toggle")?.setAttribute("aria-expanded", String(open));
};
const remembered = () => {
  try {
    return localStorage.getItem("millrace-side") !== "closed";
  } catch {
    return true;
  }
};
setSide(!narrow.matches && remembered());
narrow.addEventListener("change", () => setSide(!narrow.matches && remembered()));

const toggle = (open = html.dataset.side !== "open") => {
  setSide(open);
  if (narrow.matches) {
    if (open) document.querySelector("#mr-side button")?.focus();
    else document.getElementById("mr-toggle")?.focus();
    return;
  }
  try {
    localStorage.setItem("millrace-side", open ? "open" : "closed");
  } catch {
    // private windows may have none
  }
};

document.addEventListener("click", (event) => {
  if (event.target.closest?.("#mr-toggle")) toggle();
  else if (event.target.closest?.("#mr-veil")) toggle(false);
  else if (event.target.closest?.("#mr-new") && narrow.matches) setSide(false);
});

// ---- the menu of a conversation, one for all of them

const menu = document.createElement("div");
menu.id = "mr-menu";
menu.setAttribute("role", "menu");
menu.hidden = true;
for (const [action, label] of [
  ["rename", "Rename"],
  ["md", "Download as Markdown"],
  ["json", "Download as JSON"],
  ["delete", "Delete"],
]) {
  const item = document.createElement("button");
  item.type = "button";
  item.setAttribute("role", "menuitem");
  item.dataset.action = action;
  item.dataset.label = label;
  menu.append(item);
}
(document.querySelector(".gradio-container") ?? document.body).append(menu);
const items = [...menu.children];
const deletion = items[items.length - 1];
let about = null;
let opener = null;

const closeMenu = (refocus) => {
  if (menu.hidden) return;
  menu.hidden = true;
  opener?.setAttribute("aria-expanded", "false");
  if (refocus) opener?.focus();
};

const openMenu = (button) => {
  opener = button;
  about = row(button).dataset.id;
  for (const item of items) item.textContent = say(item.dataset.label);
  delete deletion.dataset.sure;
  menu.hidden = false;
  const place = button.getBoundingClientRect();
  const below = place.bottom + menu.offsetHeight + 8 < innerHeight;
  menu.style.left = `${Math.max(8, Math.min(place.left, innerWidth - menu.offsetWidth - 8))}px`;
  menu.style.top = `${below ? place.bottom + 4 : place.top - menu.offsetHeight - 4}px`;
  button.setAttribute("aria-expanded", "true");
  items[0].focus();
};

menu.addEventListener("keydown", (event) => {
  const at = items.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    items[(at + step + items.length) % items.length].focus();
    event.preventDefault();
  } else if (event.key === "Escape" || event.key === "Tab") {
    closeMenu(true);
    event.preventDefault();
  }
});

menu.addEventListener("click", (event) => {
  const action = event.target.closest("button")?.dataset.action;
  if (action === "rename") rename(about);
  else if (action === "md" || action === "json") download(about, action);
  else if (action === "delete" && !deletion.dataset.sure) {
    deletion.dataset.sure = "yes";
    deletion.textContent = say("Delete for good?");
    return;
  } else if (action === "delete") tell("delete", { id: about });
  closeMenu(action === "md" || action === "json");
});

document.addEventListener("pointerdown", (event) => {
  if (!menu.contains(event.target) && !opener?.contains(event.target)) closeMenu(false);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && menu.hidden && narrow.matches && html.dataset.side === "open") toggle(false);
});

const download = (id, ending) => {
  const link = document.createElement("a");
  link.href = `${nav().dataset.root}/conversations/${id}.${ending}`;
  link.download = "";
  link.click();
};

const rename = (id) => {
  const item = element.querySelector(`li[data-id="${id}"]`);
  const title = item.querySelector(".mr-open");
  const input = document.createElement("input");
  input.className = "mr-rename";
  input.maxLength = 120;
  input.value = title.title;
  input.setAttribute("aria-label", say("Title"));
  item.append(input);
  let done = false;
  const end = (keep) => {
    if (done) return;
    done = true;
    input.remove();
    if (keep && input.value.trim()) tell("rename", { id, title: input.value });
    title.focus();
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter");
    event.stopPropagation();
  });
  input.addEventListener("blur", () => end(true));
  input.focus();
  input.select();
};

element.addEventListener("click", (event) => {
  const more = event.target.closest(".mr-more");
  if (more) {
    if (!menu.hidden && opener === more) closeMenu(true);
    else openMenu(more);
  } else if (event.target.closest(".mr-open")) {
    tell("open", { id: row(event.target).dataset.id });
    if (narrow.matches) toggle(false);
  }
});

// ---- which conversation is open stands in the address, so that a reload finds it; other tabs hear of changes

const channel = "BroadcastChannel" in window ? new BroadcastChannel("millrace" + location.pathname) : null;
watch("value", () => {
  name();
  document.getElementById("mr-toggle")?.setAttribute("aria-label", say("Conversations"));
  const current = nav()?.dataset.current ?? "";
  if (current !== location.hash.slice(1)) {
    history.replaceState(null, "", current ? `#${current}` : location.pathname + location.search);
  }
  channel?.postMessage("changed");
  follow();
});
// What nobody looks at follows no answer of another tab: a browser has six connections for all of its tabs.
const follow = () => {
  if (nav()?.hasAttribute("data-live") && document.visibilityState === "visible") trigger("follow", {});
};
let due = 0;
const refresh = () => {
  due ||= setTimeout(() => ((due = 0), tell("refresh")), 150); // one answer to all that is told meanwhile
};
if (channel) channel.onmessage = refresh;
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible") return;
  refresh();
  follow();
});
addEventListener("hashchange", () => tell("open", { id: location.hash.slice(1) }));

// ---- the round buttons of the box have no words of their own

const name = () => {
  for (const [kind, label] of [["submit", "Send"], ["stop", "Stop"]]) {
    const button = document.querySelector(`#mr-box button.${kind}-button`);
    if (button && button.getAttribute("aria-label") !== say(label)) button.setAttribute("aria-label", say(label));
  }
};
const box = document.getElementById("mr-box");
if (box) new MutationObserver(name).observe(box, { childList: true, subtree: true });
name();

// ---- an earlier question is edited as it was typed, not as it is escaped for the page

document.addEventListener("focusin", (event) => {
  const area = event.target;
  if (!area.matches?.("#mr-chat .user-row textarea") || area.dataset.plain) return;
  area.dataset.plain = "yes";
  const plain = area.value.replace(/&lt;/g, "<").replace(/&amp;(?=#?\w+;)/g, "&");
  if (plain !== area.value) {
    area.value = plain;
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }
});

// ---- Gradio ends its stream with the last answer. A question that is put at that very moment waits on a stream that
// ---- is gone: another one is opened then, by a look at how things are

let streams = 0;
let hopeful = 0;
let looking = false;
const request = window.fetch;
window.fetch = async (target, options) => {
  const url = String(target?.url ?? target);
  if (url.includes("/queue/data")) {
    streams += 1;
    (options?.signal ?? target.signal)?.addEventListener("abort", () => {
      streams -= 1;
      if (Date.now() - hopeful < 3000) setTimeout(look, 250);
    });
  }
  const answer = await request(target, options);
  if (url.includes("/queue/join")) {
    if (!looking && streams) hopeful = Date.now();
    looking = false;
  }
  return answer;
};
const look = () => {
  if (streams) return;
  hopeful = 0;
  looking = true;
  trigger("follow", {});
};

// ---- what Gradio says of connections that end with the page is not heard any more

const complain = console.error;
console.error = (...words) => {
  if (words[0]?.name === "AbortError" || words[0] === "Unexpected error") setTimeout(complain, 5000, ...words);
  else complain(...words);
};

tell("open", { id: location.hash.slice(1) });
