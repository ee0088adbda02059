// A view that is looked at asks how things stand, often while a run goes on. `element` and `trigger` are Gradio's.

const OFTEN = 400;
const SELDOM = 2000;
let seen = false;
let timer = 0;

const look = (more = {}) => {
  const shown = element.querySelector("[data-seen]");
  trigger("look", { seen: shown?.dataset.seen ?? "", ...more });
};

const goOn = () => {
  clearTimeout(timer);
  if (!seen) return;
  if (document.visibilityState === "visible") look();
  timer = setTimeout(goOn, element.querySelector("[data-live]") ? OFTEN : SELDOM);
};

new IntersectionObserver((entries) => {
  const now = entries[entries.length - 1].isIntersecting;
  if (now === seen) return;
  seen = now;
  goOn();
}).observe(element);

element.addEventListener("click", (event) => {
  const card = event.target.closest("[data-run]");
  if (card) look({ run: card.dataset.run });
});
