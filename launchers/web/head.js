// Before Gradio's own code. A page that goes has nothing to complain about: Gradio's connections end with it.
(() => {
  const complain = console.error;
  let gone = false;
  const leaving = (yes) => {
    gone = yes;
    console.error = yes ? () => {} : complain;
  };
  addEventListener("beforeunload", () => {
    leaving(true);
    setTimeout(leaving, 2000, false); // it may have been a download
  });
  addEventListener("pageshow", () => leaving(false));
  addEventListener("unhandledrejection", (event) => gone && event.preventDefault());
})();
