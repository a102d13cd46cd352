// Everything here is comfort: without it each page still works with links and forms.

const $ = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const on = (name, handler, root = document) => root.addEventListener(name, handler);
const onClick = (selector, handler) => on("click", (event) => {
  const found = event.target.closest?.(selector);
  if (found) handler(found, event);
});

// --- htmx begins when its extensions are there, too: by itself it may be ahead of one that still loads ---

let early = true;
let isHeld = false;
on("htmx:before:process", (event) => {
  if (early) event.preventDefault();
  isHeld ||= early;
});
on("DOMContentLoaded", () => {
  early = false; // deferred scripts, extensions among them, ran before this
  if (isHeld) htmx.process(document.body);
});

// --- cookies: small choices of this browser ---------------------------------------------

const secure = location.protocol === "https:" ? "; Secure" : "";
const remember = (name, value) => { document.cookie = `${name}=${value}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`; };
const recall = (name) => document.cookie.split("; ").find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1);

// --- toasts -----------------------------------------------------------------------------

const STAY = 6000;

function settleToast(toast) {
  if (toast.dataset.toast === "bad" || toast.dataset.seen) return;
  toast.dataset.seen = "1";
  const leave = () => (toast.matches(":hover, :focus-within") ? setTimeout(leave, STAY) : toast.remove());
  setTimeout(leave, STAY);
}

function drawIcon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  const sheet = $("svg.ico use")?.getAttribute("href").split("#")[0];
  svg.setAttribute("class", "ico");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `${sheet}#${name}`);
  svg.append(use);
  return svg;
}

export function toast(text, tone = "ok") {
  const box = document.createElement("div");
  const words = document.createElement("p");
  const close = document.createElement("button");
  box.className = "toast";
  box.dataset.toast = tone;
  words.textContent = text;
  close.type = "button";
  close.dataset.dismiss = "";
  close.setAttribute("aria-label", "Close");
  close.append(drawIcon("close"));
  box.append(drawIcon(tone === "bad" ? "bad" : "tick"), words, close);
  $("#toasts")?.append(box);
  settleToast(box);
}

onClick("[data-dismiss]", (button) => button.closest(".toast").remove());

on("htmx:response:error", ({ detail }) => {
  if (detail.ctx.response.status >= 500) toast("The server had a problem. Reload to see what was saved.", "bad");
});
on("htmx:error", ({ detail }) => {
  if (detail.ctx) toast("No answer. Check the connection, then reload.", "bad");
});

// --- theme ------------------------------------------------------------------------------

const THEMES = ["system", "light", "dark"];
const THEME_ICONS = { system: "contrast", light: "sun", dark: "moon" };
const themeNow = () => document.documentElement.dataset.theme ?? "system";

function showTheme(button) {
  const now = themeNow();
  const use = $("use", button);
  use.setAttribute("href", use.getAttribute("href").replace(/#.*/, `#${THEME_ICONS[now]}`));
  $(".sr", button).textContent = `Colour theme: ${now === "system" ? "follow system" : now}`;
}

onClick("[data-theme-toggle]", (button) => {
  const next = THEMES[(THEMES.indexOf(themeNow()) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  remember("theme", next);
  showTheme(button);
});

// --- dialogs and drawers ----------------------------------------------------------------

onClick("[data-confirm]", (opener, event) => {
  const dialog = $(opener.dataset.confirm);
  if (!dialog?.showModal) return;
  event.preventDefault();
  dialog.showModal();
});

// hx-confirm="#id" asks with our dialog: a button with value "yes" in a form method="dialog" goes on.
on("htmx:confirm", (event) => {
  const { ctx, issueRequest, dropRequest } = event.detail;
  const dialog = ctx.confirm?.startsWith("#") && $(ctx.confirm);
  if (!dialog) return;
  event.preventDefault();
  dialog.returnValue = "";
  dialog.addEventListener("close", () => (dialog.returnValue === "yes" ? issueRequest() : dropRequest()), { once: true });
  dialog.showModal();
});

onClick("dialog [data-close]", (closer, event) => {
  event.preventDefault();
  closer.closest("dialog").close();
});

// A drawer's close link leads to the page without it; closing by any means goes to that address.
function openDrawer() {
  const drawer = $("dialog.drawer");
  if (!drawer?.firstElementChild || drawer.matches(":modal")) return;
  const opener = document.activeElement;
  drawer.open = false; // a page may arrive with its drawer open; now it can hold the focus
  drawer.showModal();
  drawer.addEventListener("close", () => {
    const back = $("a[data-close]", drawer);
    if (back) history.replaceState(null, "", back.href);
    drawer.replaceChildren();
    if (opener?.isConnected) opener.focus();
  }, { once: true });
}

// --- menu, popovers ---------------------------------------------------------------------

onClick(".rail-toggle", (button) => {
  button.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") !== "true"));
});

const POPOVERS = "details.switcher[open], details.facet[open]";
on("click", (event) => all(POPOVERS).forEach((open) => { if (!open.contains(event.target)) open.open = false; }));

// --- copy -------------------------------------------------------------------------------

onClick("[data-copy]", async (button) => {
  // An address of text on the page, the text itself, or nothing: what stands before the button.
  const wanted = button.dataset.copy;
  const sources = wanted.startsWith("#") ? all(wanted) : wanted ? [] : [button.previousElementSibling];
  const found = sources.map((source) => source.value ?? (source.matches(".prose") ? source.innerText : source.textContent)).join("\n\n");
  try {
    await navigator.clipboard.writeText(sources.length ? found : wanted);
    toast("Copied");
  } catch {
    toast("This browser does not let pages copy. Select the text instead.", "bad");
  }
});

// --- unsaved changes: <form data-dirty> -------------------------------------------------

const dirty = new Set();
on("input", ({ target }) => { const form = target.closest("form[data-dirty]"); if (form) dirty.add(form); });
on("submit", ({ target }) => dirty.delete(target));
addEventListener("beforeunload", (event) => { if ([...dirty].some((form) => form.isConnected)) event.preventDefault(); });

// --- a file of text, read here and put into a field -------------------------------------

on("change", async ({ target }) => {
  const [file, field] = [target.files?.[0], target.dataset.fileInto && $(target.dataset.fileInto)];
  if (file && field) field.value = file.size > 1048576 ? "" : await file.text();
  if (file?.size > 1048576) toast("The file is larger than 1 MiB.", "bad");
});

// --- tick: the one clock that pollers listen to -----------------------------------------

const BUSY = 60_000;
let usedAt = Date.now();
let ticks = 0;
for (const name of ["pointermove", "keydown", "scroll"]) addEventListener(name, () => { usedAt = Date.now(); }, { passive: true });
setInterval(() => {
  ticks += 1;
  if (document.hidden || (Date.now() - usedAt > BUSY && ticks % 10)) return;
  document.body.dispatchEvent(new CustomEvent("tick"));
}, 1000);

// --- shortcuts --------------------------------------------------------------------------

const shortcutsOff = () => recall("shortcuts") === "off";
on("change", ({ target }) => { if (target.id === "shortcuts-on") remember("shortcuts", target.checked ? "on" : "off"); });

on("keydown", (event) => {
  if (event.key === "Escape") all(POPOVERS).forEach((open) => { open.open = false; $("summary", open).focus(); });
  if (shortcutsOff() || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, [contenteditable], dialog[open]")) return;
  if (event.key === "?") $("#shortcuts")?.showModal();
  const search = event.key === "/" && $("main input[type=search]");
  if (search) { event.preventDefault(); search.focus(); }
});

// --- chat: follow what is being said, send and stop by key ------------------------------

const newest = $("[data-newest]");
const NEAR = 120; // pixels from the end that still count as the end
const distance = () => document.documentElement.scrollHeight - innerHeight - scrollY;
let follows = true;

function toNewest() {
  follows = true;
  scrollTo(0, document.documentElement.scrollHeight);
}

// An address with a place in it takes the focus from the field that had it, at the latest when all is loaded.
function readyToWrite() {
  if (document.activeElement === document.body) $("[data-sends]")?.focus({ preventScroll: true });
}

let spoken;

function settleChat() {
  const saying = all("[data-spoken]").at(-1)?.dataset.spoken ?? "";
  // Only what changes is told: a page that opens on a finished answer says nothing.
  if (saying !== spoken && (spoken !== undefined || $("[aria-busy=true]"))) $("#chat-status").textContent = saying;
  spoken = saying;
  if (follows) toNewest();
  // What is far away costs nothing with each word that comes, once a picture had it and the browser knows its size.
  requestAnimationFrame(() => requestAnimationFrame(() => all(".said:not([data-laid])").forEach((said) => { said.dataset.laid = ""; })));
}

if (newest) {
  addEventListener("scroll", () => { follows = distance() < NEAR; newest.hidden = follows; }, { passive: true });
  addEventListener("resize", () => { if (follows) toNewest(); }); // a phone's keyboard comes and goes
  newest.addEventListener("click", toNewest);
  let fromEnd = 0; // of the place that is read while earlier messages come in above it
  onClick("#earlier a", () => { fromEnd = document.documentElement.scrollHeight - scrollY; });
  // With the next picture, not with the swap: what comes in is laid out once.
  on("htmx:after:swap", () => requestAnimationFrame(() => {
    if (fromEnd) scrollTo(0, document.documentElement.scrollHeight - fromEnd);
    fromEnd = 0;
    settleChat();
  }));
  if (location.search.includes("edit=") || location.hash.match(/^#(message|branch)/)) follows = false;
  if (location.hash === "#newest") addEventListener("load", () => requestAnimationFrame(readyToWrite));
  // Nothing is loaded by a link to where one is already, so nothing would bring the focus back from it.
  onClick("a[href$='#newest']", (link, event) => {
    if (link.href !== location.href) return;
    event.preventDefault();
    toNewest();
    $("[data-sends]")?.focus({ preventScroll: true });
  });
  settleChat();
}

// Tabs with the same chat tell each other up to when they know it.
const elsewhere = $("#elsewhere");
if (elsewhere) {
  const { chat, at } = elsewhere.dataset;
  const tabs = new BroadcastChannel("chat");
  tabs.addEventListener("message", ({ data }) => {
    if (data.chat !== chat || data.at <= at) return;
    elsewhere.hidden = false;
    $("#chat-status").textContent = $("p", elsewhere).textContent;
  });
  tabs.postMessage({ chat, at });
}

// A page that got no stream asks for each answer instead.
let streamless = false;
on("htmx:response:error", ({ target, detail }) => {
  if (target.id === "thread" && detail.ctx.response.status === 429) streamless = true;
});
on("tick", () => {
  if (!streamless) return;
  all("[data-poll]").forEach((answer) => htmx.ajax("GET", answer.dataset.poll, { target: answer, swap: "outerMorph" }));
}, document.body);

on("keydown", (event) => {
  if (event.isComposing || event.defaultPrevented) return;
  if (event.key === "Escape") all("form[data-stop]").forEach((form) => form.requestSubmit());
  if (event.key !== "Enter" || event.shiftKey || !event.target.matches("[data-sends]")) return;
  if (matchMedia("(pointer: coarse)").matches) return;
  event.preventDefault();
  if (!$("form[data-stop]")) event.target.form.requestSubmit();
});

// --- whatever a page or a fragment brings -----------------------------------------------

function guessZone(field) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const known = field.tagName !== "SELECT" || [...field.options].some((option) => option.value === zone);
  if (zone && known && (!field.value || field.value === "UTC")) field.value = zone;
}

function settle() {
  all("[data-js][hidden]").forEach((element) => { element.hidden = false; });
  all("[data-toast]").forEach(settleToast);
  openDrawer();
}

settle();
all("[data-theme-toggle]").forEach(showTheme);
all("[data-zone-guess]").forEach(guessZone);
const shortcutsBox = $("#shortcuts-on");
if (shortcutsBox) shortcutsBox.checked = !shortcutsOff();
on("htmx:after:swap", settle);
