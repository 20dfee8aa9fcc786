// The page of `dcfnet serve`.  What it is doing is `state`; boxes are in pixels of the video, not
// of the picture shown.

const $ = (id) => document.getElementById(id);
const stage = $("stage"), canvas = $("picture"), pen = canvas.getContext("2d");
const fields = ["x", "y", "w", "h"].map($);
const SMALLEST = 4; // pixels: less is a click, not a box
// from little to much
const COLOURS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

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
// -----------------------------------------------------------------------------------------

function setState(next, text = "") {
  state = next;
  $("status").textContent = text;
  stage.classList.toggle("draws", state === "drawing");
  $("empty").hidden = state !== "empty";
  $("controls").hidden = state === "empty" || state === "loading";
  $("numbers").disabled = state !== "drawing";
  $("start").hidden = state !== "drawing";
  $("start").disabled = box === null;
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

function ask() {
  const how = camera ? "; tracking starts when you let go" : ", then press Start";
  setState("drawing", `Draw a box around the target${how}.`);
}

function show(picture, width) {
  shown = picture;
  zoom = width / picture.width;
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  redraw();
}

function redraw() {
  if (!shown) return;
  pen.drawImage(shown, 0, 0);
  if (!box) return;
  const [x, y, w, h] = box.map((value) => value / zoom);
  const wide = 1 / layout().scale; // a pixel of the screen
  // a rim for any ground
  for (const [colour, pixels] of [["rgb(0 0 0 / .7)", 5], [ok ? "#40dc40" : "#ff5050", 2.5]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = pixels * wide;
    pen.strokeRect(x, y, w, h);
  }
}

function setBox(next) {
  box = next;
  ok = true;
  fields.forEach((field, index) => (field.value = box ? Math.round(box[index]) : ""));
  $("start").disabled = box === null;
  redraw();
}

function drawScores() {
  const chart = $("scores"), ratio = devicePixelRatio || 1, style = getComputedStyle(document.body);
  chart.width = chart.clientWidth * ratio;
  chart.height = chart.clientHeight * ratio;
  const ink = chart.getContext("2d"), most = Math.max(1.25, ...scores.map((point) => point.score));
  const height = (score) => (1 - Math.max(score, 0) / most) * (chart.height - 2 * ratio) + ratio;
  ink.lineWidth = ratio;
  ink.strokeStyle = style.getPropertyValue("--line");
  ink.fillStyle = style.getPropertyValue("--quiet");
  ink.font = `${11 * ratio}px system-ui, sans-serif`;
  for (const level of [0, 0.5, 1]) {
    ink.beginPath();
    ink.moveTo(0, height(level));
    ink.lineTo(chart.width, height(level));
    ink.stroke();
    ink.fillText(level, 2 * ratio, height(level) - 3 * ratio);
  }
  ink.lineWidth = 2 * ratio;
  const step = Math.max(ratio, chart.width / Math.max(scores.length, 150));
  const last = scores.slice(-Math.floor(chart.width / step));
  last.forEach((point, index) => {
    if (index === 0) return;
    ink.beginPath();
    ink.strokeStyle = style.getPropertyValue(point.ok ? "--good" : "--bad");
    ink.moveTo((index - 1) * step, height(last[index - 1].score));
    ink.lineTo(index * step, height(point.score));
    ink.stroke();
  });
}

function drawMap(levels, side) {
  const map = $("map"), image = new ImageData(side, side);
  map.width = map.height = side;
  levels.forEach((level, index) => {
    const place = (level / 255) * (COLOURS.length - 1), low = Math.min(Math.floor(place), COLOURS.length - 2);
    for (let channel = 0; channel < 3; channel += 1) {
      const [a, b] = [COLOURS[low][channel], COLOURS[low + 1][channel]];
      image.data[4 * index + channel] = a + (b - a) * (place - low);
    }
    image.data[4 * index + 3] = 255;
  });
  map.getContext("2d").putImageData(image, 0, 0);
}

// --- a video
// ----------------------------------------------------------------------------------------------

function upload(file) {
  if (state === "loading") return;
  reset();
  if (file.size > limit) {
    return fail(`${file.name} is larger than ${limit / 1e6} MB; start dcfnet serve with a higher --max-upload.`);
  }
  setState("loading", `Uploading ${file.name} …`);
  $("progress").hidden = false;
  const request = new XMLHttpRequest(); // fetch() does not tell how far an upload is
  request.open("POST", `/videos?name=${encodeURIComponent(file.name)}`);
  request.responseType = "json";
  request.upload.onprogress = (event) => ($("progress").value = event.loaded / event.total);
  request.onerror = () => give("the server does not answer");
  request.onload = () => {
    if (request.status !== 200) return give(request.response?.error ?? `the server answers ${request.status}`);
    video = request.response;
    $("progress").hidden = true;
    $("name").textContent = `${video.name}, ${video.width}×${video.height}`
      + (video.frames ? `, at most ${video.frames} frames` : "");
    $("from").max = video.frames ? video.frames - 1 : "";
    $("from").value = 0;
    showFrame();
  };
  const give = (reason) => {
    $("progress").hidden = true;
    setState("empty");
    fail(`${file.name}: ${reason}`);
  };
  request.send(file);
}

async function showFrame() {
  const number = Math.max(0, Math.floor(Number($("from").value) || 0));
  fail("");
  const answer = await fetch(`/videos/${video.id}/frame.jpg?number=${number}`);
  if (!answer.ok) return fail((await answer.json()).error);
  setBox(null);
  show(await createImageBitmap(await answer.blob()), video.width);
  ask();
}

// --- the camera
// -------------------------------------------------------------------------------------------

async function openCamera() {
  reset();
  if (!navigator.mediaDevices?.getUserMedia) {
    return fail("The browser gives its camera to pages of this machine (localhost) or https only.");
  }
  setState("loading", "Asking for the camera …");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 640 } }, audio: false,
    });
    camera = document.createElement("video");
    camera.muted = camera.playsInline = true;
    camera.srcObject = stream;
    await camera.play();
  } catch (error) {
    camera = null;
    setState("empty");
    return fail(`The camera cannot be used: ${error.message || error.name}.`);
  }
  $("name").textContent = `camera, ${camera.videoWidth}×${camera.videoHeight}`;
  setBox(null);
  ask();
  preview();
}

function grab() {
  const copy = document.createElement("canvas");
  copy.width = camera.videoWidth;
  copy.height = camera.videoHeight;
  copy.getContext("2d").drawImage(camera, 0, 0);
  return copy;
}

function preview() {
  if (!camera || state !== "drawing") return;
  if (!drag && !box) show(grab(), camera.videoWidth); // it stands still while a box is drawn
  requestAnimationFrame(preview);
}

function sendPicture(picture) {
  const to = socket;
  picture.toBlob((blob) => {
    if (to === socket && to.readyState === WebSocket.OPEN) to.send(blob);
  }, "image/jpeg", 0.85);
}

// --- tracking
// ---------------------------------------------------------------------------------------------

function start() {
  if (state !== "drawing" || !box) return;
  fail("");
  scores = [];
  frames = 0;
  const picture = shown, order = { box, start: Number($("from").value) || 0, pace: $("pace").checked };
  const path = camera ? "/camera" : `/videos/${video.id}/track`;
  const mine = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
  socket = mine;
  mine.binaryType = "arraybuffer";
  mine.onopen = () => {
    mine.send(JSON.stringify(camera ? { box } : order));
    if (camera) sendPicture(picture);
  };
  let sent = camera ? picture : null; // the camera's picture that the next answer is about
  // one message after the other, since pictures decode beside the page
  let turn = Promise.resolve();
  mine.onmessage = (event) => {
    turn = turn.then(() => (mine === socket ? take(event.data) : null));
  };
  const take = async (data) => {
    if (typeof data === "string") return note(JSON.parse(data));
    const length = new DataView(data).getUint32(0), facts = JSON.parse(new TextDecoder().decode(data.slice(4, 4 + length)));
    const from = 4 + length, middle = from + facts.picture;
    const bitmap = facts.picture ? await createImageBitmap(new Blob([data.slice(from, middle)])) : sent;
    if (mine !== socket) return;
    [box, ok, frames] = [facts.box, facts.ok, frames + 1];
    show(bitmap, camera ? camera.videoWidth : video.width);
    report(facts, new Uint8Array(data.slice(middle)));
    if (camera) sendPicture((sent = grab()));
    else if (mine.readyState === WebSocket.OPEN) mine.send('{"shown": 1}');
  };
  const note = (facts) => {
    if (facts.run) for (const suffix of ["csv", "json", "txt"]) $(suffix).href = `/runs/${facts.run}/boxes.${suffix}`;
    if (facts.error) fail(facts.error);
    if (facts.error || facts.end) finish(mine);
  };
  mine.onclose = () => turn.then(() => {
    if (mine === socket) fail("The server ended the run; its terminal may say why.");
    finish(mine);
  });
  setState("running", "Tracking …");
}

function report(facts, levels) {
  fields.forEach((field, index) => (field.value = Math.round(facts.box[index])));
  if (facts.score !== null) {
    scores.push({ score: facts.score, ok: facts.ok });
    scores.splice(0, scores.length - 4000);
  }
  $("score").textContent = facts.score === null ? "–" : facts.score.toFixed(2) + (facts.ok ? "" : `, ${facts.state}`);
  $("score").classList.toggle("bad", !facts.ok);
  $("frame").textContent = facts.frame + (video?.frames ? ` of at most ${video.frames - 1}` : "");
  $("speed").textContent = `${facts.ms.toFixed(0)} ms a frame`;
  $("count").textContent = frames;
  if (facts.map) drawMap(levels, facts.map);
  drawScores();
}

function stop() {
  if (state !== "running") return;
  // another box begins where this one ended
  if (video) $("from").value = $("frame").textContent.split(" ")[0];
  if (socket.readyState === WebSocket.OPEN) socket.send('{"stop": 1}');
  else finish(socket);
}

function finish(which) {
  if (which !== socket) return;
  socket = null;
  which.close();
  if (state !== "running") return;
  setState("done", frames ? `Tracked ${frames} frames.` : "");
  $("again").focus();
}

function again() {
  if (video) return showFrame();
  setBox(null);
  ask();
  preview();
}

function reset() {
  fail("");
  socket?.close();
  socket = null;
  camera?.srcObject.getTracks().forEach((track) => track.stop());
  camera = video = shown = null;
  frames = 0;
  $("name").textContent = "";
  setBox(null);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  setState("empty");
}

// --- pointer and keyboard
// ---------------------------------------------------------------------------------

function layout() {
  // The canvas keeps the picture's proportions inside its element: there may be bars at its sides.
  const area = canvas.getBoundingClientRect();
  const scale = Math.min(area.width / canvas.width, area.height / canvas.height) || 1;
  const left = area.left + (area.width - canvas.width * scale) / 2;
  const top = area.top + (area.height - canvas.height * scale) / 2;
  return { scale, left, top };
}

function place(event) {
  const { scale, left, top } = layout();
  const inside = (value, most) => Math.min(Math.max(value, 0), most);
  return [inside((event.clientX - left) / scale, canvas.width) * zoom,
    inside((event.clientY - top) / scale, canvas.height) * zoom];
}

canvas.addEventListener("pointerdown", (event) => {
  if (state !== "drawing" || event.button !== 0) return;
  drag = place(event);
  setBox(null);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = place(event);
  const [left, top] = [Math.min(x, drag[0]), Math.min(y, drag[1])].map(Math.round);
  const [right, bottom] = [Math.max(x, drag[0]), Math.max(y, drag[1])].map(Math.round);
  setBox(Math.min(right - left, bottom - top) >= SMALLEST ? [left, top, right - left, bottom - top] : null);
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
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way || !shown) return;
  event.preventDefault();
  const [width, height] = [shown.width * zoom, shown.height * zoom];
  const [dx, dy] = way.map((step) => step * (event.ctrlKey ? 10 : 1));
  const [x, y, w, h] = box ?? [width / 3, height / 3, width / 3, height / 3].map(Math.round);
  if (!box) setBox([x, y, w, h]);
  else if (event.shiftKey) setBox([x, y, Math.max(1, w + dx), Math.max(1, h + dy)]);
  else setBox([x + dx, y + dy, w, h]);
});
fields.forEach((field) => field.addEventListener("change", () => {
  const values = fields.map((each) => each.valueAsNumber);
  if (values.every(Number.isFinite)) [box, $("start").disabled] = [values, false];
  redraw();
}));

$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) upload(file);
  event.target.value = ""; // so that the same one can be opened again
});
stage.addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("drop");
});
stage.addEventListener("dragleave", () => stage.classList.remove("drop"));
stage.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("drop");
  const [file] = event.dataTransfer.files;
  if (file) upload(file);
});
$("camera").addEventListener("click", openCamera);
$("from").addEventListener("change", showFrame);
$("start").addEventListener("click", start);
$("stop").addEventListener("click", stop);
$("again").addEventListener("click", again);
addEventListener("resize", () => {
  redraw();
  drawScores();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawScores);

const facts = await (await fetch("/config")).json();
limit = facts.max_upload;
$("about").textContent = `DCFNet, weights “${facts.weights}”, preset “${facts.preset}”`;
const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
$("where").textContent = `Videos go to ${local ? "dcfnet on this machine" : location.host} and nowhere else; `
  + "they are deleted when it ends.";
setState("empty");
drawScores();
