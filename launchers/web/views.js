// A view that is looked at asks how things stand, often while a run goes on. `element`, `trigger` and `watch` are Gradio's.

const OFTEN = 400;
const SELDOM = 1200;
let seen = false;
let timer = 0;

const look = (more = {}) => {
  const shown = element.querySelector("[data-seen]");
  trigger("look", { seen: shown?.dataset.seen ?? "", ...more });
};

const wait = () => {
  clearTimeout(timer);
  if (seen) timer = setTimeout(goOn, element.querySelector("[data-live]") ? OFTEN : SELDOM);
};

const goOn = () => {
  if (seen && document.visibilityState === "visible") look();
  wait();
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

// ---- what is drawn anew keeps its place: what had the focus, and how far it was scrolled

const nameOf = (node) => {
  if (node.dataset?.run) return `[data-run="${node.dataset.run}"]`;
  return [".mr-events", ".mr-drawing"].find((name) => node.matches?.(name)) ?? "";
};
let focused = "";
let places = {};
let open = "";

element.addEventListener("focusin", (event) => (focused = nameOf(event.target)));
element.addEventListener("focusout", (event) => event.relatedTarget && (focused = ""));
document.addEventListener("pointerdown", (event) => element.contains(event.target) || (focused = ""));
element.addEventListener(
  "scroll",
  ({ target }) => nameOf(target) && (places[nameOf(target)] = [target.scrollLeft, target.scrollTop]),
  true,
);

watch("value", () => {
  const run = element.querySelector("[data-key]")?.dataset.key ?? "";
  if (run !== open) {
    open = run;
    places = {};
    const box = element.closest(".tabitem");
    if (run && box && matchMedia("(max-width: 52rem)").matches) {
      // It opens below the list.
      box.scrollTop += element.getBoundingClientRect().top - box.getBoundingClientRect().top - 8;
    }
  }
  for (const [name, [left, top]] of Object.entries(places)) element.querySelector(name)?.scrollTo(left, top);
  if (focused && (document.activeElement ?? document.body) === document.body) {
    element.querySelector(focused)?.focus({ preventScroll: true });
  }
  wait();
});
