// What all pages have in common.

const element = (id) => document.getElementById(id);
const systemTheme = matchMedia("(prefers-color-scheme: dark)");

/** An element with text. */
function text(kind, content) {
  const made = document.createElement(kind);
  made.textContent = content;
  return made;
}

function fail(error) {
  element("failure").textContent = error.message;
  element("failure").hidden = false;
  document.body.classList.add("failed");
}

/** What mclip put into the page, and the body, unpacked. */
async function readPage() {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser is too old for this page. Try a current one.");
  }
  const data = JSON.parse(element("data").textContent);
  return { data, body: await readBody(data.body) };
}
