// What Gradio's parts lack for keyboards and screen readers. `say` is chat.js's.

{
  const name = (selector, words) => {
    for (const one of document.querySelectorAll(selector)) {
      if (!one.getAttribute("aria-label")) one.setAttribute("aria-label", say(words));
    }
  };
  const mend = () => {
    name("#mr-box button.submit-button", "Send");
    name("#mr-box button.stop-button", "Stop");
    name("#mr-chat .copy_code_button", "Copy code");
    // a part's title is a button around a button: the inner one is enough, and needs a name
    for (const title of document.querySelectorAll("#mr-chat .thought-group .title")) {
      const button = title.querySelector("button");
      title.removeAttribute("role");
      title.removeAttribute("tabindex");
      button?.setAttribute("aria-label", title.innerText.trim());
      button?.setAttribute("aria-expanded", String(title.nextElementSibling !== null));
    }
  };
  let due = 0;
  const soon = () => {
    due ||= requestAnimationFrame(() => {
      due = 0;
      mend();
    });
  };
  new MutationObserver(soon).observe(document.body, { childList: true, subtree: true });
  soon();
}
