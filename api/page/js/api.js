// Asking the API: addresses, keys, and errors in its own words.

// Relative to the page, so that both may be shown below any path of a proxy.
const BASE = "api/v1";
const KEY = "pyama.key";

/** What the API says is wrong, or why it says nothing. */
export class Problem extends Error {
  constructor(message, code = "", status = 0, details = null) {
    super(message);
    this.code = code;
    this.status = status;
    // Of a request with wrong fields: [{field, message}].
    this.fields = Array.isArray(details) ? details : [];
    this.details = details;
  }
}

export const key = {
  // For this tab, and until it is closed.
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

let askForKey = async () => false;

/** Set how a person is asked for a key; the function tells whether there is a new one. */
export function onKeyNeeded(ask) {
  let asking = null;
  // Many requests may be refused at once: there is one question for all of them.
  askForKey = (problem) => (asking ??= ask(problem).finally(() => (asking = null)));
}

/** Address of a route, with its query. Lists become repeated names; what is null is left out. */
export function address(path, query = {}) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one != null && one !== "") words.append(name, one);
  }
  return `${BASE}${path}${words.size ? `?${words}` : ""}`;
}

/**
 * Ask, and give the response of a request that was met.
 *
 * What the page does by itself, now and then, asks nobody for a key: whoever has said no would be asked for ever.
 */
export async function request(url, { method = "GET", body, headers = {}, signal, byItself = false } = {}) {
  for (;;) {
    const sent = key.get();
    const response = await send(url, {
      method,
      signal,
      headers: {
        ...headers,
        ...(sent && { "X-API-Key": sent }),
        ...(body !== undefined && { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.ok) return response;
    const problem = await problemOf(response);
    // Another request may have brought a new key meanwhile.
    if (response.status === 401 && (sent !== key.get() || (!byItself && (await askForKey(problem))))) continue;
    throw problem;
  }
}

async function send(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Look whether it is running, and try again.", "NO_ANSWER");
  }
}

async function problemOf(response) {
  try {
    const told = await response.json();
    return new Problem(told.error, told.error_code, response.status, told.details);
  } catch {
    return new Problem(`The server answered with status ${response.status} and no explanation.`, "", response.status);
  }
}

export async function get(path, query, options) {
  return (await request(address(path, query), options)).json();
}

export async function post(path, body, options) {
  return (await request(address(path), { ...options, method: "POST", body })).json();
}

export async function remove(path) {
  return (await request(address(path), { method: "DELETE" })).json();
}

/** A file or picture as a blob; the browser's own cache asks whether it has changed. */
export async function blob(path, query, options) {
  return (await request(address(path, query), options)).blob();
}

let description = null;

/** Schema of a request, by the name that the API's description gives it, e.g. "Parameters". */
export async function schema(name) {
  description ??= request("openapi.json").then((response) => response.json());
  try {
    return (await description).components.schemas[name];
  } catch (error) {
    description = null;
    throw error;
  }
}
