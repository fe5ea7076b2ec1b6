// A form of what the API's own description says of parameters: names, defaults, limits, and what they mean.

import { field, h, select } from "./dom.js";
import { spoken } from "./text.js";

/** Fields for the properties of a JSON schema, and the values that a person has set. */
export class SchemaForm {
  constructor(properties) {
    this.controls = new Map(Object.entries(properties).map(([name, schema]) => [name, new Control(name, schema)]));
    this.elements = [...this.controls.values()].map((control) => control.element);
  }

  /** What differs from the defaults. */
  get values() {
    const set = [...this.controls].map(([name, control]) => [name, control.value]);
    return Object.fromEntries(set.filter(([, value]) => value !== undefined));
  }

  set(name, value) {
    this.controls.get(name).input.value = value;
  }
}

class Control {
  constructor(name, schema) {
    const types = (schema.anyOf ?? [schema]).filter((one) => one.type !== "null");
    this.numeric = types.find((one) => one.type === "integer" || one.type === "number");
    this.words = types.flatMap((one) => one.enum ?? []);
    this.schema = schema;
    this.input = this.makeInput(types);
    const help = [schema.description, this.limits()].filter(Boolean).join(". ");
    this.element = types[0].type === "boolean"
      ? h("div", { class: "field check" }, h("label", {}, this.input, spoken(name)), h("small", {}, help))
      : field(spoken(name), this.input, help);
  }

  makeInput(types) {
    const { default: preset } = this.schema;
    if (types[0].type === "boolean") return h("input", { type: "checkbox", checked: preset === true });
    if (this.words.length && !this.numeric) return select(this.words.map((word) => [word, word]), preset);
    if (this.numeric && types.length === 1) {
      const step = this.numeric.type === "integer" ? 1 : "any";
      const { minimum: min, maximum: max } = this.numeric;
      return h("input", { type: "number", step, min, max, placeholder: preset ?? "" });
    }
    return h("input", { type: "text", placeholder: preset ?? "", spellcheck: "false" });
  }

  limits() {
    const { minimum, maximum } = this.numeric ?? {};
    if (minimum == null || this.words.length) return "";
    // The largest number that can be kept is no limit that a person meets.
    return maximum == null || maximum >= 2 ** 31 - 1 ? `${minimum} or more` : `${minimum} to ${maximum}`;
  }

  get value() {
    const { input, schema } = this;
    if (input.type === "checkbox") return input.checked === (schema.default === true) ? undefined : input.checked;
    const text = input.value.trim();
    if (text === "" || text === schema.default) return undefined;
    // What is no number is sent as it is, and the API tells what it expects.
    return this.numeric && Number.isFinite(Number(text)) ? Number(text) : text;
  }
}
