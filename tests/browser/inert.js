// Notes, from the first moment of a page, all that ever stands in a model's text and is not a harmless element:
// `strange` holds it, `taken()` the names our scripts go by that something else answers to. `streamed` says whether
// an answer grew.

window.strange = [];
window.streamed = false;
const PLAIN = "BDI BLOCKQUOTE BR CODE EM H3 H4 H5 H6 HR LI OL P PRE S STRONG TBODY TD TH THEAD TR UL".split(" ");
const REL = "noopener noreferrer nofollow";
const only = (element, ...names) => element.getAttributeNames().every((name) => names.includes(name));
const OURS = {
  A: (link) => only(link, "href", "rel") && (!link.hasAttribute("rel") || link.rel === REL)
    && (!link.hasAttribute("href") || (/^https?:$/.test(link.protocol) && link.rel === REL)),
  DIV: (div) => (div.className === "code" && only(div, "class")) || (/^text-[0-9a-f-]+-tail$/.test(div.id) && only(div, "id", "class")),
  PRE: (pre) => only(pre, "tabindex"),
  TABLE: (table) => only(table, "tabindex"),
};

function isHarmless(element) {
  if (element.closest(".code > button[data-copy='']")) return true;
  return (OURS[element.tagName] ?? ((it) => PLAIN.includes(it.tagName) && only(it)))(element);
}

function judge(element) {
  if (element.nodeType !== 1) return;
  streamed ||= element.matches(".prose > .tail");
  const [prose, plain] = [".prose", ".bubble, .thought-in"].map((where) => element.parentElement?.closest(where));
  if (plain || (prose && !isHarmless(element))) strange.push(element.outerHTML.slice(0, 200));
}

// What a parser inserts is reported one by one, and then stands within each other: each is looked at once.
new MutationObserver((changes) => {
  const seen = new Set();
  const look = (node) => {
    if (seen.has(node)) return;
    seen.add(node);
    judge(node);
    node.childNodes.forEach(look);
  };
  changes.forEach(({ type, target, addedNodes }) => (type === "attributes" ? judge(target) : addedNodes.forEach(look)));
}).observe(document, { childList: true, subtree: true, attributes: true });

const NATIVE = ["cookie", "querySelector", "querySelectorAll", "addEventListener", "createElement", "location", "activeElement"];
const theirs = new Map(NATIVE.map((name) => [name, typeof document[name]]));
window.taken = () => {
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  return [
    ...ids.filter((id, at) => ids.indexOf(id) !== at),
    ...NATIVE.filter((name) => typeof document[name] !== theirs.get(name)),
    ...(typeof htmx.ajax === "function" && document.body.tagName === "BODY" ? [] : ["htmx or body"]),
  ];
};
