// What differs is scrolled into sight. A click on a box shows what it is connected with; another click, or one beside it, ends that.
for (const svg of document.querySelectorAll("svg")) {
  const mark = svg.querySelector(".mark:not(.in)") || svg.querySelector(".mark, .at"), view = svg.parentElement;
  if (mark) { // what differs comes into sight
    const a = mark.getBoundingClientRect(), b = view.getBoundingClientRect();
    view.scrollTo(a.left - b.left - (b.width - a.width) / 2, a.top - b.top - (b.height - a.height) / 2);
  }
  svg.addEventListener("click", (event) => {
    const box = event.target.closest(".box");
    const again = box && box.classList.contains("chosen");
    svg.classList.remove("focus");
    for (const e of svg.querySelectorAll(".near, .chosen")) e.classList.remove("near", "chosen");
    if (!box || again) return;
    svg.classList.add("focus");
    box.classList.add("near", "chosen");
    for (const e of svg.querySelectorAll(".edge")) {
      const from = e.dataset.from === box.dataset.id, to = e.dataset.to === box.dataset.id;
      if (!from && !to) continue;
      e.classList.add("near");
      const other = svg.querySelector(`[data-id="${from ? e.dataset.to : e.dataset.from}"]`);
      if (other) other.classList.add("near");
    }
  });
}
