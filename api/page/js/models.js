// Curves of the models that traces can be fitted with, for drawing them over the data; times are in hours.
//
// What is fitted is computed by tasks/fitting/models.py alone; the tests hold these to it.

const CURVES = {
  trivial: (_, { amplitude, offset }) => amplitude + offset,

  maturation: (t, { amplitude, rate, offset }) => offset - amplitude * Math.expm1(-rate * t),

  translation_maturation(t, { t0, ktl, delta, offset, km, beta }) {
    const d = t - t0;
    if (d <= 0) return offset;
    const b = apart(beta - delta);
    const sum = apart(b + km);
    return offset + ktl * Math.exp(-beta * d) * ((km * Math.expm1(b * d)) / b + Math.expm1(-km * d)) / sum;
  },

  maturation_blocked(t, { t0, G0, Gu0, km, beta, offset }) {
    const d = t - t0;
    if (d < 0) return offset;
    return G0 * Math.exp(-beta * d) - Gu0 * Math.exp(-beta * d) * Math.expm1(-km * d) + offset;
  },
};

/** Two rates that are equal are taken as slightly apart: the limit is the same to more digits than can be seen. */
function apart(difference) {
  const least = 1e-7;
  return Math.abs(difference) < least ? least : difference;
}

/** f(t) of a model at some times in hours; null for a model that cannot be drawn. */
export function curve(model, values, times) {
  return model in CURVES ? times.map((t) => CURVES[model](t, values)) : null;
}

const PER_HOUR = { h: 1, min: 60, s: 3600 };

/** Times of a trace file in hours. */
export const inHours = (times, unit) => times.map((time) => time / PER_HOUR[unit]);
