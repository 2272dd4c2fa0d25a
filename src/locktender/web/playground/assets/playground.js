// The page of one route: sends what stands in the form to ../stream and shows what comes back.

const byId = (id) => document.getElementById(id);
const settings = JSON.parse(byId("settings").textContent);
Object.assign(window, settings);
const routeUrl = document.body.dataset.baseUrl.replace(/\/playground$/, "");
let leaving = null;

byId("path").textContent = decodeURI(routeUrl) || "/";
byId("config").value = "{}";
byId("key-part").hidden = !settings.KEY_IS_WANTED;
byId("key").addEventListener("change", learn);
describe();
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
byId("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
});
byId("stop").addEventListener("click", () => leaving?.abort());

function describe() {
  byId("input").value = JSON.stringify(example(settings.INPUT_SCHEMA), null, 2);
  byId("config-part").hidden = !Object.keys(settings.CONFIG_SCHEMA.properties ?? {}).length;
  for (const part of ["input", "output", "config"]) {
    const schema = settings[`${part.toUpperCase()}_SCHEMA`];
    byId(`${part}-schema`).textContent = JSON.stringify(schema, null, 2);
  }
}

// Where a key is wanted the page came without the schemas, which are told for the key only.
async function learn() {
  for (const part of ["input", "output", "config"]) {
    const answer = await fetch(`${routeUrl}/${part}_schema`, { headers: key() });
    if (answer.ok) settings[`${part.toUpperCase()}_SCHEMA`] = await answer.json();
    else if (answer.status === 401) return show("the key is not the service's");
  }
  show("");
  describe();
}

function key() {
  const text = byId("key").value.trim();
  return text ? { authorization: `Bearer ${text}` } : {};
}

async function run() {
  if (leaving) return;
  byId("output").replaceChildren();
  leaving = new AbortController();
  show("running");
  try {
    await send(body(), leaving.signal);
    show("done");
  } catch (error) {
    if (error.name === "AbortError") show("stopped");
    else {
      write(error.message, "error");
      show("failed");
    }
  } finally {
    leaving = null;
    byId("run").disabled = false;
    byId("stop").disabled = true;
  }
}

function show(state) {
  byId("state").textContent = state;
  byId("run").disabled = state === "running";
  byId("stop").disabled = state !== "running";
}

function body() {
  return JSON.stringify({ input: parsed("input"), config: parsed("config") });
}

function parsed(id) {
  try {
    return JSON.parse(byId(id).value);
  } catch (error) {
    throw new Error(`The ${id} is no JSON: ${error.message}`);
  }
}

async function send(text, signal) {
  const answer = await fetch(`${routeUrl}/stream`, {
    method: "POST",
    headers: { "content-type": "application/json", ...key() },
    body: text,
    signal,
  });
  if (!answer.ok) throw new Error(`${answer.status}: ${pretty(await answer.text())}`);
  let rest = "";
  const letters = answer.body.pipeThrough(new TextDecoderStream());
  for (const reader = letters.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    const frames = (rest + value).split(/\r?\n\r?\n/);
    rest = frames.pop();
    frames.forEach(take);
  }
}

function take(frame) {
  const lines = frame.split(/\r?\n/);
  const field = (name) =>
    lines
      .filter((line) => line.startsWith(`${name}:`))
      .map((line) => line.slice(name.length + 1).replace(/^ /, ""))
      .join("\n");
  if (field("event") === "error") throw new Error(JSON.parse(field("data")).message);
  if (field("event") === "data") write(readable(JSON.parse(field("data"))));
}

function readable(chunk) {
  if (typeof chunk === "string") return chunk;
  if (typeof chunk?.content === "string" && "type" in chunk) return chunk.content;
  return `${JSON.stringify(chunk, null, 2)}\n`;
}

function write(text, kind = "chunk") {
  const part = document.createElement("span");
  part.className = kind;
  part.textContent = text;
  byId("output").append(part);
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// What a caller has to fill in: an object with every property, and what is simplest for the rest.
function example(schema, root = schema, depth = 0) {
  if (schema === true || !schema || depth > 4) return null;
  if (schema.$ref) return example(at(root, schema.$ref), root, depth + 1);
  if ("default" in schema) return schema.default;
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  const choices = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (choices) return example(choices[0], root, depth + 1);
  if (schema.properties) {
    const fields = Object.entries(schema.properties);
    return Object.fromEntries(fields.map(([name, each]) => [name, example(each, root, depth + 1)]));
  }
  return { object: {}, array: [], string: "", integer: 0, number: 0, boolean: false }[schema.type] ?? null;
}

function at(root, ref) {
  const names = ref.replace(/^#\//, "").split("/");
  return names.reduce((here, name) => here?.[name.replace(/~1/g, "/").replace(/~0/g, "~")], root);
}
