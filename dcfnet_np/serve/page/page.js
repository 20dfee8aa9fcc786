// The page of `dcfnet serve`.  What it is doing is `state`; boxes are in pixels of the video, not
// of the picture shown.

const $ = (id) => document.getElementById(id);
const stage = $("stage"), canvas = $("picture"), pen = canvas.getContext("2d");
const fields = ["x", "y", "w", "h"].map($);
const SMALLEST = 4; // pixels: less is a click, not a box
const KEPT = 150; // scores in the chart

let state = "empty"; // then: loading, drawing, running, done
let limit = Infinity; // bytes of an upload
let video = null; // what the server said of the upload; null for a camera
let camera = null; // the <video> of the camera, which is not shown itself
let shown = null; // the picture on the stage: an ImageBitmap, or a canvas
let zoom = 1; // pixels of the video in one of the picture
let box = null, ok = true;
let drag = null; // where the pointer went down
let socket = null, scores = [], frames = 0;

// --- what is seen

function setState(next, text = "") {
  state = next;
  $("status").textContent = text;
  stage.classList.toggle("draws", state === "drawing");
  $("empty").hidden = state !== "empty";
  $("controls").hidden = state === "empty" || state === "loading";
  $("numbers").disabled = state !== "drawing";
  $("start").hidden = state !== "drawing";
  $("stop").hidden = state !== "running";
  $("again").hidden = state !== "done";
  $("from-label").hidden = $("pace-label").hidden = video === null || state !== "drawing";
  $("camera").disabled = $("file").disabled = state === "loading";
  $("downloads").hidden = frames === 0 || state === "running";
}

function fail(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

/** Ask for a box. */
function ask() {
  const how = camera ? "; tracking starts when you let go" : ", then press Start";
  setBox(null);
  setState("drawing", `Draw a box around the target${how}.`);
}

function show(picture, width) {
  shown = picture;
  zoom = width / picture.width;
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    [canvas.width, canvas.height] = [picture.width, picture.height];
  }
  redraw();
}

function redraw() {
  if (!shown) return;
  pen.drawImage(shown, 0, 0);
  if (!box) return;
  const wide = 1 / layout().scale; // a pixel of the screen
  // a rim for any ground
  for (const [colour, pixels] of [["rgb(0 0 0 / .7)", 5], [ok ? "#40dc40" : "#ff5050", 2.5]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = pixels * wide;
    pen.strokeRect(...box.map((value) => value / zoom));
  }
}

function setBox(next) {
  box = next;
  ok = true;
  fields.forEach((field, index) => (field.value = box ? Math.round(box[index]) : ""));
  $("start").disabled = box === null;
  redraw();
}

/** The newest scores from left to right, over lines at 0, 0.5 and 1. */
function drawScores() {
  const chart = $("scores"), ink = chart.getContext("2d"), style = getComputedStyle(document.body);
  const most = Math.max(1.25, ...scores.map(({ score }) => score));
  const height = (score) => (1 - Math.max(score, 0) / most) * (chart.height - 4) + 2;
  const line = (colour, width, x, y, toX, toY) => {
    ink.strokeStyle = style.getPropertyValue(colour);
    ink.lineWidth = width;
    ink.beginPath();
    ink.moveTo(x, y);
    ink.lineTo(toX, toY);
    ink.stroke();
  };
  ink.clearRect(0, 0, chart.width, chart.height);
  ink.fillStyle = style.getPropertyValue("--quiet");
  ink.font = "22px system-ui, sans-serif";
  for (const level of [0, 0.5, 1]) {
    line("--line", 2, 0, height(level), chart.width, height(level));
    ink.fillText(level, 4, height(level) - 6);
  }
  const step = chart.width / KEPT;
  scores.slice(1).forEach(({ score, good }, index) => line(good ? "--good" : "--bad", 4,
    index * step, height(scores[index].score), (index + 1) * step, height(score)));
}

/** levels: a byte a pixel of a map of this side. */
function drawMap(levels, side) {
  const map = $("map"), image = new ImageData(side, side);
  map.width = map.height = side;
  levels.forEach((level, index) => image.data.set([level, level, level, 255], 4 * index));
  map.getContext("2d").putImageData(image, 0, 0);
}

// --- a video

async function upload(file) {
  if (state === "loading") return;
  reset();
  if (file.size > limit) {
    const most = `${limit / 1e6} MB; start dcfnet serve with a higher --max-upload`;
    return fail(`${file.name} is larger than ${most}.`);
  }
  setState("loading", `Uploading ${file.name} …`);
  let facts;
  try {
    const path = `/videos?name=${encodeURIComponent(file.name)}`;
    facts = await (await fetch(path, { method: "POST", body: file })).json();
  } catch {
    facts = { error: `${file.name}: the server does not answer` };
  }
  if (facts.error) {
    setState("empty");
    return fail(facts.error);
  }
  video = facts;
  const count = video.frames ? `, at most ${counted(video.frames)}` : "";
  $("name").textContent = `${video.name}, ${video.width}×${video.height}${count}`;
  $("from").max = video.frames ? video.frames - 1 : "";
  $("from").value = 0;
  showFrame();
}

async function showFrame() {
  const number = Math.max(0, Math.floor(Number($("from").value) || 0));
  fail("");
  const answer = await fetch(`/videos/${video.id}/frame.jpg?number=${number}`);
  if (!answer.ok) return fail((await answer.json()).error);
  show(await createImageBitmap(await answer.blob()), video.width);
  ask();
}

// --- the camera

async function openCamera() {
  reset();
  if (!navigator.mediaDevices?.getUserMedia) {
    return fail("The browser gives its camera to pages of this machine (localhost) or https only.");
  }
  setState("loading", "Asking for the camera …");
  try {
    const wish = { facingMode: "environment", width: { ideal: 640 } };
    camera = document.createElement("video");
    camera.muted = camera.playsInline = true;
    camera.srcObject = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
    await camera.play();
  } catch (error) {
    camera = null;
    setState("empty");
    return fail(`The camera cannot be used: ${error.message || error.name}.`);
  }
  $("name").textContent = `camera, ${camera.videoWidth}×${camera.videoHeight}`;
  ask();
  preview();
}

function grab() {
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [camera.videoWidth, camera.videoHeight];
  copy.getContext("2d").drawImage(camera, 0, 0);
  return copy;
}

function preview() {
  if (!camera || state !== "drawing") return;
  if (!drag && !box) show(grab(), camera.videoWidth); // it stands still while a box is drawn
  requestAnimationFrame(preview);
}

function sendPicture(picture, to) {
  picture.toBlob((blob) => {
    if (to === socket && to.readyState === WebSocket.OPEN) to.send(blob);
  }, "image/jpeg", 0.85);
}

// --- tracking

function start() {
  if (state !== "drawing" || !box) return;
  fail("");
  [scores, frames] = [[], 0];
  const order = { box, start: Number($("from").value) || 0, pace: $("pace").checked };
  const path = camera ? "/camera" : `/videos/${video.id}/track`;
  const mine = new WebSocket(`${location.origin.replace(/^http/, "ws")}${path}`);
  let sent = camera && shown; // the camera's picture that the next answer is about
  let turn = Promise.resolve(); // one message after the other: pictures decode beside the page
  socket = mine;
  mine.binaryType = "arraybuffer";
  mine.onopen = () => {
    mine.send(JSON.stringify(camera ? { box } : order));
    if (camera) sendPicture(sent, mine);
  };
  mine.onmessage = ({ data }) => {
    turn = turn.then(() => {
      if (mine === socket) return typeof data === "string" ? note(JSON.parse(data)) : take(data);
    });
  };
  mine.onclose = () => turn.then(() => {
    if (mine === socket) fail("The server ended the run; its terminal may say why.");
    finish(mine);
  });
  const take = async (data) => {
    const length = new DataView(data).getUint32(0), from = 4 + length;
    const facts = JSON.parse(new TextDecoder().decode(data.slice(4, from)));
    const middle = from + facts.picture, jpeg = new Blob([data.slice(from, middle)]);
    const bitmap = facts.picture ? await createImageBitmap(jpeg) : sent;
    if (mine !== socket) return;
    [box, ok, frames] = [facts.box, facts.ok, frames + 1];
    show(bitmap, camera ? camera.videoWidth : video.width);
    report(facts, new Uint8Array(data.slice(middle)));
    if (camera) sendPicture((sent = grab()), mine);
    else if (mine.readyState === WebSocket.OPEN) mine.send('{"shown": 1}');
  };
  const note = ({ run, error, end }) => {
    for (const suffix of run ? ["csv", "json", "txt"] : []) {
      $(suffix).href = `/runs/${run}/boxes.${suffix}`;
    }
    if (error) fail(error);
    if (error || end) finish(mine);
  };
  setState("running", "Tracking …");
}

function report({ frame, score, ok: good, state: word, ms, map }, levels) {
  fields.forEach((field, index) => (field.value = Math.round(box[index])));
  if (score !== null) scores = [...scores.slice(-KEPT), { score, good }];
  $("score").textContent = score === null ? "–" : score.toFixed(2) + (good ? "" : `, ${word}`);
  $("score").classList.toggle("bad", !good);
  $("frame").textContent = frame + (video?.frames ? ` of at most ${video.frames - 1}` : "");
  $("speed").textContent = `${ms.toFixed(0)} ms a frame`;
  $("count").textContent = frames;
  if (map) drawMap(levels, map);
  drawScores();
}

function stop() {
  if (state !== "running") return;
  // another box begins where this one ended
  if (video) $("from").value = $("frame").textContent.split(" ")[0];
  if (socket.readyState === WebSocket.OPEN) socket.send('{"stop": 1}');
  else finish(socket);
}

const counted = (frames) => `${frames} frame${frames === 1 ? "" : "s"}`;

function finish(which) {
  if (which !== socket) return;
  socket = null;
  which.close();
  if (state !== "running") return;
  setState("done", frames ? `Tracked ${counted(frames)}.` : "");
  $("again").focus();
}

function again() {
  if (video) return showFrame();
  ask();
  preview();
}

function reset() {
  fail("");
  socket?.close();
  camera?.srcObject.getTracks().forEach((track) => track.stop());
  socket = camera = video = shown = null;
  frames = 0;
  $("name").textContent = "";
  setBox(null);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  setState("empty");
}

// --- pointer and keyboard

/** Where the picture lies in its element, whose proportions it may not have. */
function layout() {
  const area = canvas.getBoundingClientRect();
  const scale = Math.min(area.width / canvas.width, area.height / canvas.height) || 1;
  return { scale, left: area.left + (area.width - canvas.width * scale) / 2,
           top: area.top + (area.height - canvas.height * scale) / 2 };
}

function place(event) {
  const { scale, left, top } = layout();
  const inside = (value, most) => Math.min(Math.max(value / scale, 0), most) * zoom;
  return [inside(event.clientX - left, canvas.width), inside(event.clientY - top, canvas.height)];
}

canvas.addEventListener("pointerdown", (event) => {
  if (state !== "drawing" || event.button !== 0) return;
  drag = place(event);
  setBox(null);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const here = place(event), corner = here.map((value, k) => Math.round(Math.min(value, drag[k])));
  const size = here.map((value, k) => Math.round(Math.max(value, drag[k])) - corner[k]);
  setBox(Math.min(...size) >= SMALLEST ? [...corner, ...size] : null);
});
canvas.addEventListener("pointerup", () => {
  if (!drag) return;
  drag = null;
  if (camera) start();
});
canvas.addEventListener("pointercancel", () => (drag = null));

stage.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return stop();
  if (state !== "drawing") return;
  if (event.key === "Enter") return start();
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const way = ways[event.key];
  if (!way || !shown) return;
  event.preventDefault();
  if (!box) {
    const third = [shown.width, shown.height].map((side) => Math.round((side * zoom) / 3));
    return setBox([...third, ...third]);
  }
  const [dx, dy] = way.map((step) => step * (event.ctrlKey ? 10 : 1)), [x, y, w, h] = box;
  if (event.shiftKey) setBox([x, y, Math.max(1, w + dx), Math.max(1, h + dy)]);
  else setBox([x + dx, y + dy, w, h]);
});
fields.forEach((field) => field.addEventListener("change", () => {
  const values = fields.map((each) => each.valueAsNumber);
  if (values.every(Number.isFinite)) [box, $("start").disabled] = [values, false];
  redraw();
}));

// --- a file, buttons, the window

$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) upload(file);
  event.target.value = ""; // so that the same one can be opened again
});
for (const kind of ["dragover", "dragleave", "drop"]) stage.addEventListener(kind, (event) => {
  event.preventDefault();
  stage.classList.toggle("drop", kind === "dragover");
  const [file] = kind === "drop" ? event.dataTransfer.files : [];
  if (file) upload(file);
});
$("camera").addEventListener("click", openCamera);
$("from").addEventListener("change", showFrame);
$("start").addEventListener("click", start);
$("stop").addEventListener("click", stop);
$("again").addEventListener("click", again);
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawScores);

const facts = await (await fetch("/config")).json();
limit = facts.max_upload;
$("about").textContent = `DCFNet, weights “${facts.weights}”, preset “${facts.preset}”`;
const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
$("where").textContent = `Videos go to ${local ? "dcfnet on this machine" : location.host} and ` +
  "nowhere else; they are deleted when it ends.";
setState("empty");
drawScores();
