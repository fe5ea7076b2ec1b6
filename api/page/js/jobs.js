// The list of jobs, live: those that run are followed by events, the list as a whole is asked for now and then.

import { get, post, remove } from "./api.js";
import { confirmDialog } from "./dialogs.js";
import { button, busy, fill, h, newestOnly, notify } from "./dom.js";
import { follow, hasEnded, pause } from "./events.js";
import { showProblem } from "./problems.js";
import { counted, readableDuration, readableTime } from "./text.js";

// A browser opens six connections to a host: these leave some for all else, and for another tab.
const MOST_FOLLOWED = 2;
const LIST_MS = 3000;
const PAGE = 25;

const KINDS = {
  processing: { name: "Processing", unit: "fov", units: "FOV" },
  merge: { name: "Merge", unit: "sample", units: "sample" },
  fitting: { name: "Fit", unit: "cell", units: "cell" },
};
const STATUS = {
  pending: "Waiting", running: "Running", completed: "Completed", failed: "Failed", cancelled: "Cancelled",
};

const CANCELLING = ["Cancel this job?", "What is finished stays; the rest stops.", "Cancel the job"];
const REMOVING = ["Remove this job from the list?", "Its files stay where they are.", "Remove"];

export async function show(_, signal) {
  const list = new JobList(signal);
  await list.load();
  list.keepUpToDate();
  return list.element;
}

class JobList {
  constructor(signal) {
    this.signal = signal;
    this.cards = new Map();
    this.followed = new Map();
    this.offset = 0;
    this.ask = newestOnly();
    this.rows = h("ul", { class: "jobs" });
    this.pages = h("div", { class: "pages" });
    this.problem = h("div");
    this.element = h(
      "section", {},
      h("div", { class: "title" }, h("h1", {}, "Jobs"), h("a", { class: "button primary", href: "#/new" }, "New run")),
      this.problem,
      this.rows,
      this.pages,
    );
  }

  async load(byItself = false) {
    const isNewest = this.ask();
    const query = { limit: PAGE, offset: this.offset };
    const { jobs, total } = await get("/jobs", query, { signal: this.signal, byItself });
    if (!isNewest()) return;
    // The last page may be gone, with the jobs that were on it.
    const last = PAGE * Math.floor(Math.max(0, total - 1) / PAGE);
    if (this.offset > last) {
      this.offset = last;
      return this.load(byItself);
    }
    for (const job of jobs) this.card(job).update(job);
    fill(this.problem);
    const shown = jobs.map((job) => this.cards.get(job.job_id).element);
    fill(this.rows, shown.length ? shown : h("li", { class: "empty" }, "No jobs yet. ", h("a", { href: "#/new" }, "Start a run")));
    this.showPages(total);
    for (const job of jobs) this.follow(job);
  }

  card(job) {
    if (!this.cards.has(job.job_id)) this.cards.set(job.job_id, new JobCard(job, () => this.refresh()));
    return this.cards.get(job.job_id);
  }

  follow(job) {
    if (hasEnded(job) || this.followed.has(job.job_id) || this.followed.size >= MOST_FOLLOWED) return;
    const { update } = this.cards.get(job.job_id);
    const done = follow(job.job_id, update, this.signal)
      .catch(() => {})
      .finally(() => this.followed.delete(job.job_id));
    this.followed.set(job.job_id, done);
  }

  async keepUpToDate() {
    while (!this.signal.aborted) {
      await pause(LIST_MS, this.signal);
      // Nobody looks at a hidden tab.
      if (!this.signal.aborted && !document.hidden) await this.refresh(true);
    }
  }

  async refresh(byItself = false) {
    try {
      await this.load(byItself);
    } catch (problem) {
      if (!this.signal.aborted) fill(this.problem, showProblem(problem));
    }
  }

  async turn(offset) {
    this.offset = offset;
    await this.refresh();
  }

  showPages(total) {
    const { offset } = this;
    fill(this.pages, total > PAGE && [
      button("Newer", () => this.turn(offset - PAGE), "", { disabled: offset === 0 }),
      h("span", {}, `${offset + 1}–${Math.min(offset + PAGE, total)} of ${total}`),
      button("Older", () => this.turn(offset + PAGE), "", { disabled: offset + PAGE >= total }),
    ]);
  }
}

class JobCard {
  constructor(job, onchange) {
    this.id = job.job_id;
    this.onchange = onchange;
    this.badge = h("span", { class: "badge" });
    this.bar = h("progress", { max: 100, "aria-label": `Progress of ${job.name}` });
    this.percentage = h("span", { class: "number" });
    this.message = h("p", { class: "message" });
    this.times = h("p", { class: "times" });
    this.actions = h("div", { class: "actions" });
    this.problem = h("div");
    this.element = h(
      "li", { class: "card job", "data-job": job.job_id },
      h("div", { class: "head" }, h("h2", {}, job.name), h("span", { class: "kind" }, KINDS[job.kind].name), this.badge),
      h("div", { class: "progress" }, this.bar, this.percentage),
      h("div", { class: "foot" }, h("div", {}, this.message, this.times), this.actions),
      this.problem,
    );
    this.update = this.update.bind(this);
  }

  update(job) {
    const state = JSON.stringify(job);
    if (state === this.state) return;
    const statusHasChanged = job.status !== this.job?.status;
    this.state = state;
    this.job = job;
    const { unit, units } = KINDS[job.kind];
    const { percentage, [`current_${unit}`]: done, [`total_${unit}s`]: total } = job.progress;
    this.element.dataset.status = job.status;
    this.badge.textContent = STATUS[job.status];
    this.bar.value = percentage;
    this.percentage.textContent = `${percentage.toFixed(percentage < 100 ? 1 : 0)} %`;
    this.message.textContent = job.error ?? job.message;
    const left = job.estimated_seconds_left;
    this.times.textContent = [
      total ? `${done} of ${counted(total, units)}` : "",
      job.created_at ? readableTime(Date.parse(job.created_at)) : "",
      left != null ? `about ${readableDuration(left)} left` : "",
      took(job),
    ].filter(Boolean).join(" · ");
    if (statusHasChanged) this.showActions(job);
  }

  showActions(job) {
    const act = (text, kind, work, question = null) => button(text, async ({ currentTarget: control }) => {
      // Before the button is busy: it gets the focus back from the dialog.
      if (question && !(await confirmDialog(...question))) return;
      await busy(control, this.problem, showProblem, work);
    }, kind);
    fill(
      this.actions,
      open(job),
      !hasEnded(job) && act("Cancel", "", () => this.cancel(), CANCELLING),
      (job.status === "failed" || job.status === "cancelled") && act("Retry", "", () => this.retry()),
      hasEnded(job) && act("Remove", "quiet", () => this.remove(), REMOVING),
      job.prefect_url && h("a", { class: "quiet", href: job.prefect_url, target: "_blank", rel: "noopener" }, "Prefect ↗"),
    );
  }

  async cancel() {
    await post(`/jobs/${this.id}/cancel`);
    notify(`${this.job.name} is being cancelled`);
    this.onchange();
  }

  async retry() {
    await post(`/jobs/${this.id}/retry`);
    notify(`${this.job.name} is taken up again`);
    this.onchange();
  }

  async remove() {
    await remove(`/jobs/${this.id}`);
    this.onchange();
  }
}

function took(job) {
  if (!job.started_at || !job.ended_at) return "";
  return `took ${readableDuration((Date.parse(job.ended_at) - Date.parse(job.started_at)) / 1000)}`;
}

/** Link to what a job makes: FOVs of a run can be seen as soon as each is done. */
function open(job) {
  const addresses = {
    processing: job.output_dir && `#/result?${new URLSearchParams({ output_dir: job.output_dir })}`,
    fitting: `#/fitted?${new URLSearchParams({ job: job.job_id })}`,
  };
  const address = addresses[job.kind];
  return address && h("a", { class: "button primary", href: address }, "Open");
}
