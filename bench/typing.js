// Watches one page from its first moment: bench/typing.py reads it with `seen()`. Times are in ms; those that are
// compared with another page's are since 1970.

const [keys, tasks, paints] = [[], [], []];
const WAITED = 16; // browsers do not report events that were shown sooner
let typed = 0;
let pressed = Number(sessionStorage.getItem("pressed"));
let stands = 0;
let arrived = [];

const painted = (then) => requestAnimationFrame(() => {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => then(performance.now());
  channel.port2.postMessage("");
});

new PerformanceObserver((list) => tasks.push(...list.getEntries().map((task) => task.duration)))
  .observe({ type: "longtask", buffered: true });

const slow = new Map();
new PerformanceObserver((list) => list.getEntries().forEach((event) => {
  if (event.name === "keydown") slow.set(event.startTime, event.duration);
})).observe({ type: "event", buffered: true, durationThreshold: 16 });

addEventListener("keydown", (event) => {
  if (event.key === "Enter") sessionStorage.setItem("pressed", performance.timeOrigin + event.timeStamp);
  else typed += 1;
}, true);

// --- a piece of an answer that arrives, and the picture that has it ---

const { read } = ReadableStreamDefaultReader.prototype;
ReadableStreamDefaultReader.prototype.read = function watched() {
  return read.call(this).then((piece) => {
    if (piece.value && new TextDecoder().decode(piece.value).includes("#text-")) arrived.push(performance.now());
    return piece;
  });
};

new MutationObserver(() => {
  if (!stands && pressed && document.querySelector("[data-stop]")) {
    stands = 1;
    painted((at) => { stands = performance.timeOrigin + at; });
  }
  if (!arrived.length) return;
  const those = arrived;
  arrived = [];
  painted((at) => paints.push(...those.map((moment) => at - moment)));
}).observe(document, { childList: true, characterData: true, subtree: true });

window.seen = () => ({
  keys: [...slow.values(), ...Array(Math.max(0, typed - slow.size)).fill(WAITED)], tasks, paints, pressed, stands,
});
