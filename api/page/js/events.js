// Following a job: by server-sent events, and by asking again and again where those do not come through.

import { address, get, request } from "./api.js";

const ENDED = new Set(["completed", "failed", "cancelled"]);
const POLL_MS = 2000;

export const hasEnded = (job) => ENDED.has(job.status);

/**
 * Tell `onStatus` of a job now and whenever it changes, until it has ended.
 *
 * The browser's EventSource cannot send a key, so the stream is read by fetch. A browser opens few connections to one
 * host at a time: follow few jobs at once.
 */
export async function follow(jobId, onStatus, signal) {
  let ended = false;
  const note = (job) => {
    ended = hasEnded(job);
    onStatus(job);
  };
  while (!ended && !signal.aborted) {
    try {
      await readEvents(jobId, note, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 404 || error.status === 401) throw error;
    }
    if (ended || signal.aborted) return;
    // Whoever stands between may not let streams through; the state is asked for as well before the next attempt.
    await pause(POLL_MS, signal);
    try {
      if (!signal.aborted) note(await get(`/jobs/${jobId}`, {}, { signal, byItself: true }));
    } catch (error) {
      if (error.status === 404) throw error;
    }
  }
}

async function readEvents(jobId, onStatus, signal) {
  const headers = { Accept: "text/event-stream" };
  const response = await request(address(`/jobs/${jobId}/events`), { headers, signal, byItself: true });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const lines = event.split("\n");
      if (!lines.includes("event: status")) continue;
      const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      onStatus(JSON.parse(data.join("\n")));
    }
  }
}

/** Wait; less long where the signal says that nobody waits for it any more. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
