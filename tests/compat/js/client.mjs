// What LangChain's own JavaScript client gets of a server.
//
//     node client.mjs BASE_URL FOLDER [CONNECTION]
//
// FOLDER is where `npm` has put the packages.  CONNECTION is `close` for a server that closes a
// connection after a failure without saying so.  Prints one JSON object: what each call gave, or the
// error that it threw.

import { createRequire } from "node:module";

const [base, folder, connection = "keep-alive"] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { RemoteRunnable } = require("@langchain/core/runnables/remote");
const { HumanMessage } = require("@langchain/core/messages");

const headers = { connection };
const remote = (path, options = {}) =>
  new RemoteRunnable({ url: `${base}${path}`, options: { headers, ...options } });

// Ids and times are not the same twice.
const CHANGING = new Set(["id", "run_id", "start_time", "end_time"]);
const TIME = /^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$/;

function shown(value) {
  if (Array.isArray(value)) return value.map(shown);
  if (typeof value === "string") return TIME.test(value) ? "*" : value;
  if (value === null || typeof value !== "object") return value;
  const kind = value.constructor.name;
  if (typeof value._getType === "function") return [kind, value.content];
  if (kind === "Document") return [kind, value.pageContent];
  if (typeof value.toChatMessages === "function") return [kind, shown(value.toChatMessages())];
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, CHANGING.has(key) ? "*" : shown(item)]),
  );
}

async function told(call) {
  try {
    return { gave: shown(await call()) };
  } catch (error) {
    return { threw: error.constructor.name, message: error.message.replaceAll(base, "BASE") };
  }
}

async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

async function everyCall(path, values) {
  return {
    invoke: await told(() => remote(path).invoke(values[0])),
    batch: await told(() => remote(path).batch(values)),
    stream: await told(() => all(remote(path).stream(values[0]))),
  };
}

async function errors() {
  return {
    invoke: await told(() => remote("/boom").invoke(1)),
    batch: await told(() => remote("/boom").batch([1])),
    stream: await told(() => all(remote("/boom").stream(1))),
    late: await told(() => all(remote("/gen_err").stream(1))),
    log: await told(() => all(remote("/boom").streamLog(1))),
    events: await told(() => all(remote("/boom").streamEvents(1, { version: "v2" }))),
    badInput: await told(() => remote("/boom").invoke("x")),
    badBatch: await told(() => remote("/boom").batch(["x"])),
    badStream: await told(() => all(remote("/boom").stream("x"))),
    badLog: await told(() => all(remote("/boom").streamLog("x"))),
    refusal: await told(() => remote("/teapot").invoke(1)),
    missing: await told(() => remote("/nowhere").invoke(1)),
    missingStream: await told(() => all(remote("/nowhere").stream(1))),
    tooSlow: await told(() => all(remote("/wait", { timeout: 200 }).stream("slow"))),
  };
}

async function configured() {
  const config = {
    configurable: { a: "changed" },
    maxConcurrency: 3,
    metadata: { m: 1 },
    recursionLimit: 7,
    runName: "mine",
    tags: ["t"],
    timeout: 20_000,
  };
  const template = { configurable: { template: "bye {name}" } };
  return {
    camelCase: await told(() => remote("/fields").invoke(1, config)),
    camelCaseAllowed: await told(() => remote("/fields_keys").invoke(1, config)),
    streamed: await told(() => all(remote("/fields").stream(1, config))),
    batch: await told(() => remote("/fields").batch([1, 2], [config, {}])),
    batchShared: await told(() => remote("/fields").batch([1, 2], config, { maxConcurrency: 1 })),
    template: await told(() => remote("/conf").invoke({ name: "x" }, template)),
    kwargs: await told(() => remote("/add_one").batch([1, 2], [{ stop: ["a"] }, { stop: ["b"] }])),
    message: await told(() => remote("/in/message").invoke(new HumanMessage("hi"))),
    messages: await told(() => remote("/in/messages").invoke([new HumanMessage("hi")])),
    piped: await told(() => remote("/add_one").pipe((value) => value * 10).invoke(1)),
  };
}

const FILTERS = {
  includeTypes: { includeTypes: ["chat_model"] },
  includeNames: { includeNames: ["ChatPromptTemplate"] },
  includeTags: { includeTags: ["seq:step:2"] },
  excludeTypes: { excludeTypes: ["prompt"] },
  excludeNames: { excludeNames: ["GenericFakeChatModel"] },
  excludeTags: { excludeTags: ["seq:step:1"] },
};

async function watched() {
  const found = {};
  const input = { question: "a" };
  const version = "v2";
  for (const [name, filter] of Object.entries({ everything: {}, ...FILTERS })) {
    const events = () => all(remote("/chat").streamEvents(input, { version }, filter));
    const log = () => all(remote("/chat").streamLog(input, {}, filter));
    found[name] = { events: await told(events), log: await told(log) };
  }
  return found;
}

// Leaves a run that would never end; the server is then asked whether it has seen that.  (A plain
// `break` tells it nothing: this client reads on behind its loop.)
async function early() {
  const leaving = new AbortController();
  const found = {};
  try {
    const stream = await remote("/wait").stream("abort", { signal: leaving.signal });
    for await (const chunk of stream) {
      found.chunk = chunk;
      leaving.abort();
    }
  } catch (error) {
    found.threw = error.name;
  }
  const hasLeft = (name) => remote("/left").invoke(name);
  return { ...found, hasLeft: await hasLeft("abort"), hasTimedOut: await hasLeft("slow") };
}

const found = {
  numbers: await everyCall("/add_one", [1, 2]),
  messages: await everyCall("/chat", [{ question: "a" }, { question: "b" }]),
  strings: await everyCall("/str", [{ question: "a" }, { question: "b" }]),
  documents: await everyCall("/ret", ["q", "r"]),
  prompts: await everyCall("/cprompt", [{ q: "a" }, { q: "b" }]),
  empty: await everyCall("/gen_none", [1, 2]),
  errors: await errors(),
  configured: await configured(),
  watched: await watched(),
  early: await early(),
};
console.log(JSON.stringify(found));
