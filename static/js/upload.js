// Uploads: files dropped or chosen go up two at a time, one request each, with a line that
// shows its bytes, can be cancelled, and keeps the sentence when a file is refused.
const AT_ONCE = 2;
const form = document.getElementById("upload");
const input = document.getElementById("drop-input");
const list = document.getElementById("uploads");
const said = document.getElementById("uploads-said");
const line = document.getElementById("upload-line");
const types = form.dataset.types.split(" ");
const maxBytes = Number(form.dataset.maxBytes);

const waiting = [];
let going = 0;
let taken = 0;

function size(bytes) {
  const units = ["bytes", "KB", "MB", "GB"];
  const power = bytes < 1024 ? 0 : Math.min(3, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(power > 1 ? 1 : 0)} ${units[power]}`;
}

function refusal(file) {
  const suffix = file.name.includes(".") ? `.${file.name.split(".").pop().toLowerCase()}` : "";
  // Without an extension the site looks at the content; another one may be read as plain text.
  if (suffix && !types.includes(suffix) && !file.type.startsWith("text/")) {
    return `Files of this kind cannot be read. Upload ${form.dataset.kinds}.`;
  }
  if (file.size > maxBytes) {
    return `The file has ${size(file.size)}; this site accepts up to ${form.dataset.max}. Split it and upload the parts.`;
  }
  if (file.size === 0) return "The file is empty. Check that it was saved and upload it again.";
  return "";
}

function addLine(file) {
  const item = line.content.firstElementChild.cloneNode(true);
  item.querySelector(".upload-name").textContent = file.name;
  item.querySelector(".upload-name").title = file.name;
  item.querySelector("progress").setAttribute("aria-label", `Upload of ${file.name}`);
  const button = item.querySelector("[data-cancel]");
  button.setAttribute("aria-label", `Cancel the upload of ${file.name}`);
  list.append(item);
  return item;
}

function show(item, sentence, tone = "") {
  item.querySelector(".upload-said").textContent = sentence;
  item.dataset.tone = tone;
  if (!tone) return;
  item.querySelector("progress").remove();
  const button = item.querySelector("[data-cancel]");
  button.setAttribute("aria-label", "Dismiss this line");
  button.onclick = () => item.remove();
}

function refuse(item, file, sentence, address = "") {
  show(item, sentence, "bad");
  if (address) {
    const link = document.createElement("a");
    link.href = address;
    link.textContent = "Open it";
    item.querySelector(".upload-said").append(" ", link);
  }
  said.textContent = `${file.name}: ${sentence}`;
}

function answer(request) {
  try {
    return JSON.parse(request.responseText);
  } catch {
    return {};
  }
}

function failure(request) {
  if (answer(request).error) return answer(request).error;
  if (request.status === 413) return `The file is larger than the ${form.dataset.max} this site accepts. Split it and upload the parts.`;
  if (request.status === 404) return "This corpus is not there any more, or not yours to change. Reload the page.";
  if (request.status === 403) return "The page is out of date. Reload it and upload the file again.";
  return "The site could not take the file. Try again in a moment.";
}

function send({ file, item }) {
  const request = new XMLHttpRequest();
  const body = new FormData();
  body.append("file", file);
  if (form.elements.replace.checked) body.append("replace", "1");
  request.upload.onprogress = ({ loaded, total }) => {
    item.querySelector("progress").value = loaded / total;
    show(item, loaded < total ? `${size(loaded)} of ${size(total)}` : "Storing …");
  };
  request.onload = () => {
    if (request.status === 201) {
      const { documents, refused, sentence } = answer(request);
      taken += documents.length;
      if (refused.length) refuse(item, file, sentence);
      else show(item, documents.length > 1 ? sentence : "Uploaded", "good");
      said.textContent = sentence;
      document.body.dispatchEvent(new CustomEvent("documents-changed"));
    } else {
      refuse(item, file, failure(request), answer(request).document_url);
    }
  };
  request.onerror = () => refuse(item, file, "The connection broke off. Check it and upload the file again.");
  request.onabort = () => item.remove();
  request.onloadend = () => {
    going -= 1;
    next();
  };
  item.querySelector("[data-cancel]").onclick = () => request.abort();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.setRequestHeader("X-CSRFToken", form.elements.csrfmiddlewaretoken.value);
  show(item, "0 %");
  request.send(body);
}

function next() {
  while (going < AT_ONCE && waiting.length) {
    going += 1;
    send(waiting.shift());
  }
  if (!going && !waiting.length) sweep();
}

// When all is up, what went well is told once and its lines leave; refusals stay.
function sweep() {
  const good = [...list.querySelectorAll('[data-tone="good"]')];
  if (!good.length) return;
  said.textContent = `${taken} uploaded.`;
  taken = 0;
  setTimeout(() => good.forEach((item) => item.remove()), 1500);
}

function add(files) {
  for (const file of files) {
    const item = addLine(file);
    const sentence = refusal(file);
    if (sentence) {
      refuse(item, file, sentence);
      continue;
    }
    const entry = { file, item };
    show(item, "Waiting for its turn");
    item.querySelector("[data-cancel]").onclick = () => {
      waiting.splice(waiting.indexOf(entry), 1);
      item.remove();
    };
    waiting.push(entry);
  }
  next();
}

input.addEventListener("change", () => {
  add(input.files);
  input.value = "";
});

let depth = 0; // dragenter and dragleave fire for every child
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.addEventListener("dragenter", (event) => {
  if (carriesFiles(event)) form.classList.toggle("is-over", ++depth > 0);
});
document.addEventListener("dragleave", (event) => {
  if (carriesFiles(event)) form.classList.toggle("is-over", --depth > 0);
});
document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  depth = 0;
  form.classList.remove("is-over");
  add([...event.dataTransfer.items]
    .filter((entry) => !entry.webkitGetAsEntry?.()?.isDirectory)
    .map((entry) => entry.getAsFile())
    .filter(Boolean));
});

window.addEventListener("beforeunload", (event) => {
  if (going || waiting.length) event.preventDefault();
});
