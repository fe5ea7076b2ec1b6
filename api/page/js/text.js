// Numbers and times as people read them.

const LARGE = 1024;

export function readableSize(bytes) {
  if (bytes == null) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log(Math.max(bytes, 1)) / Math.log(LARGE)));
  return `${(bytes / LARGE ** step).toFixed(step && bytes / LARGE ** step < 10 ? 1 : 0)} ${units[step]}`;
}

export function readableTime(ms) {
  return new Date(ms).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** How long something took or will take. */
export function readableDuration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** A number to so many digits, without needless zeros. */
export function readableNumber(value, digits = 4) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) {
    return value.toExponential(Math.max(digits - 2, 0)).replace(/\.?0*e\+?/, "e");
  }
  return String(Number(value.toPrecision(digits)));
}

export const counted = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

/** "intensity_total" as a person would write it. */
export const spoken = (name) => name.replaceAll("_", " ");
