/* Copy buttons: <button class="copy" data-copy="id of the element whose text is copied">.

   Browsers give navigator.clipboard only to https and localhost; elsewhere a
   selection is copied, the old way. */

"use strict";

// A browser shows no page of index.html from the disk; style.css hides the link to it.
document.documentElement.classList.toggle("disk", location.protocol === "file:");

(() => {
  const message = document.createElement("p");
  message.className = "sr";
  message.setAttribute("role", "status");
  document.body.append(message);

  function select(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }

  async function copy(element) {
    try {
      await navigator.clipboard.writeText(element.textContent);
      return true;
    } catch {
      select(element);
      return document.execCommand("copy");
    }
  }

  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("button.copy");
    if (!button) return;
    const label = button.dataset.label ??= button.textContent;
    const copied = await copy(document.getElementById(button.dataset.copy));
    message.textContent = copied ? "Copied" : "Not copied: the text is selected, press Ctrl+C";
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    clearTimeout(button.timer);
    button.timer = setTimeout(() => {
      button.textContent = label;
      message.textContent = "";
    }, 2500);
  });
})();
