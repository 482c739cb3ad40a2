// A remote handler in JavaScript: node handler.js tcp://127.0.0.1:5556 HANDLER_ID
//
// It speaks the handler link of specs/wire.md by the rules of specs/remote.md, and keeps results in memory only.
// Rows, sessions and times have 64 bits: they are BigInt here, or they would lose their last digits.
import { randomBytes } from "node:crypto";
import { decode, encode } from "@msgpack/msgpack";
import { Dealer } from "zeromq";

const [server, handlerId] = process.argv.slice(2);
const SLOTS = 4;
const INCARNATION = randomBytes(8).readBigInt64BE();

// What this handler can do: an async function for each method, its params in, anything that is JSON out.
const methods = {
  async add({ a, b }) {
    return a + b;
  },
  async nap({ seconds }, signal) {
    await new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, seconds * 1000);
      signal.addEventListener("abort", () => (clearTimeout(timer), reject(new Error("stopped"))));
    });
    return `slept ${seconds} s`;
  },
};

const socket = new Dealer({ linger: 0, reconnectInterval: 200, reconnectMaxInterval: 5000 });
let session = null; // {id, heartbeat_ms, lease_ms, heard_ms} once we are welcome
let nonce = 0n;
let hello_ms = 0; // when to say Hello next
let beat = 0n;
let beats = new Map(); // number of a beat -> when it was sent
let taken = 0n; // runs that came in this session
const runs = new Map(); // "row/attempt" -> {run, abort, report}: executing, or done and not acknowledged
const acked = new Map(); // "row/attempt" -> when: done and acknowledged, remembered for a lease longer

const now_ms = () => performance.now();
const now_us = () => BigInt(Date.now()) * 1000n;
const key = ({ row, attempt }) => `${row}/${attempt}`;
const held = ({ run }) => ({ row: run.row, attempt: run.attempt, delivery: run.delivery, fence: run.fence });
const executing = () => [...runs.values()].filter((each) => !each.report);
const granted = () => taken + BigInt(SLOTS - executing().length);

let sending = Promise.resolve();
function say(tag, fields) {
  const frame = encode([1, tag, fields], { useBigInt64: true });
  sending = sending.then(() => socket.send(frame)).catch((error) => console.error("not sent:", error.message));
}

function hello() {
  session = null;
  nonce += 1n;
  hello_ms = now_ms() + 1000 + Math.random() * 1000;
  say("hello", {
    handler_id: handlerId, incarnation: INCARNATION, nonce, proto_min: 1, proto_max: 1, slots: SLOTS,
    methods: Object.keys(methods).map((method) => ({ method })),
    executing: executing().map(held),
    unacked: [...runs.values()].filter((each) => each.report).map(held),
    software: "handler.js",
  });
}

function report(reports) {
  if (session && reports.length) say("results", { session: session.id, granted: granted(), results: reports });
}

async function execute(entry) {
  const { run, abort } = entry;
  const started_us = now_us();
  const end = { outcome: "succeeded", reason: "", result: null, error: null };
  const timer = run.timeout_us && setTimeout(() => abort.abort(), Number(run.timeout_us) / 1000);
  try {
    end.result = JSON.stringify((await methods[run.method](run.params ?? {}, abort.signal)) ?? null);
  } catch (error) {
    Object.assign(end, { outcome: entry.stopped ? "cancelled" : "failed", reason: entry.stopped ?? "error", error: `${error}` });
  }
  clearTimeout(timer);
  entry.report = { ...held(entry), incarnation: INCARNATION, started_us, finished_us: now_us(), ...end };
  report([entry.report]);
}

const take = {
  welcome(fields) {
    if (BigInt(fields.nonce) !== nonce) return; // the answer to an older Hello
    session = { id: fields.session, heartbeat_ms: Number(fields.heartbeat_us) / 1000, lease_ms: Number(fields.lease_us) / 1000, heard_ms: now_ms() };
    [taken, beat, beats] = [0n, 0n, new Map()];
    console.log("registered");
    tick();
    report([...runs.values()].flatMap((each) => each.report ?? []));
  },
  reject({ code, message, retry_us, nonce: asked = 0, session: of = 0 }) {
    if (BigInt(asked) !== nonce && (!session || BigInt(of) !== BigInt(session.id))) return;
    console.error(`rejected: ${code}: ${message}`);
    session = null;
    hello_ms = now_ms() + Number(retry_us) / 1000 + Math.random() * 200;
  },
  echo({ number }) {
    for (const [sent] of beats) if (sent < BigInt(number)) beats.delete(sent);
  },
  dispatch({ beat: heard, runs: given }) {
    const sent_ms = beats.get(BigInt(heard)) ?? -Infinity; // a lease runs from when we sent the beat
    for (const run of given) {
      const ref = { row: run.row, attempt: run.attempt, delivery: run.delivery };
      const known = runs.get(key(run));
      if (acked.has(key(run))) continue;
      if (!known) taken += 1n;
      if (known?.report) report([known.report]);
      else if (known) (known.run.delivery = run.delivery), say("accept", { session: session.id, runs: [ref] });
      else if (now_ms() - sent_ms >= session.lease_ms) say("refuse", { session: session.id, run: ref, code: "stale" });
      else if (!(run.method in methods)) say("refuse", { session: session.id, run: ref, code: "unknown_method" });
      else if (executing().length >= SLOTS) say("refuse", { session: session.id, run: ref, code: "busy" });
      else {
        const entry = { run, abort: new AbortController() };
        runs.set(key(run), entry);
        say("accept", { session: session.id, runs: [ref] });
        execute(entry);
      }
    }
  },
  stop(fields) {
    const entry = runs.get(key(fields));
    if (entry && !entry.report) (entry.stopped = fields.reason), entry.abort.abort();
  },
  result_ack({ acks }) {
    for (const ack of acks) if (runs.get(key(ack))?.report && runs.delete(key(ack))) acked.set(key(ack), now_ms());
  },
};

function tick() {
  const at_ms = now_ms();
  if (session && at_ms - session.heard_ms > session.lease_ms) hello(); // the server is gone: ask it anew
  if (!session) return void (at_ms >= hello_ms && hello());
  beat += 1n;
  beats.set(beat, at_ms);
  say("beat", { session: session.id, number: beat, granted: granted() });
  report([...runs.values()].flatMap((each) => each.report ?? []));
  for (const [done, when] of acked) if (at_ms - when > 2 * session.lease_ms) acked.delete(done);
}

socket.connect(server);
(function beatOn() {
  tick();
  setTimeout(beatOn, session ? session.heartbeat_ms : 100);
})();
process.on("SIGTERM", () => {
  if (session) say("bye", { session: session.id });
  sending.then(() => setTimeout(() => process.exit(0), 100));
});
for await (const [frame] of socket) {
  const [version, tag, fields] = decode(frame, { useBigInt64: true });
  if (version !== 1 || !(tag in take)) continue; // newer servers may say more
  if (tag !== "welcome" && tag !== "reject") {
    if (!session || BigInt(fields.session) !== BigInt(session.id)) continue;
    session.heard_ms = now_ms();
  }
  take[tag](fields);
}
