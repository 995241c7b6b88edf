// JavaScript on standard input: a script, or with -i a conversation, in which each line
// that is a whole program is run and its value is shown. -c is for colours.
const flags = [];
while (["-i", "-c"].includes(scriptArgs[flags.length + 1])) flags.push(scriptArgs[flags.length + 1]);
scriptArgs.splice(1, flags.length);
const paint = (number, text) => (flags.includes("-c") ? `\x1b[${number}m${text}\x1b[0m` : text);
if (os.chdir) os.chdir("/tmp"); // where files are put

const most = 100; // elements of one value that are shown

const show = (value, depth = 0, above = []) => {
  switch (typeof value) {
    case "string":
      return depth === 0 && value.length > 10000 ? JSON.stringify(value.slice(0, 10000)) + "…" : JSON.stringify(value);
    case "bigint":
      return `${value}n`;
    case "function":
      return `[${/^class\b/.test(Function.prototype.toString.call(value)) ? "class" : "function"} ${value.name || "without a name"}]`;
    case "object":
      break;
    default:
      return Object.is(value, -0) ? "-0" : String(value);
  }
  if (value === null) return "null";
  if (value instanceof Error) {
    const [stack] = (value.stack ?? "").split("    at evalScript (native)"); // below it is this script
    return `${value}\n${stack}`.trimEnd();
  }
  if (value instanceof Date || value instanceof RegExp) return String(value);
  if (above.includes(value)) return "[itself]";
  if (depth === 4) return Array.isArray(value) ? "[…]" : "{…}";
  const inner = (v) => show(v, depth + 1, [...above, value]);
  const some = (list, length = list.length) => {
    const shown = list.slice(0, most);
    if (length > shown.length) shown.push(`… ${length - shown.length} more`);
    return shown.join(", ");
  };
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    const name = Array.isArray(value) ? "" : `${value.constructor.name} `;
    return `${name}[${some(Array.from({ length: Math.min(value.length ?? 0, most) }, (_, i) => inner(value[i])), value.length)}]`;
  }
  if (value instanceof Map) return `Map {${some([...value].map(([k, v]) => `${inner(k)} => ${inner(v)}`))}}`;
  if (value instanceof Set) return `Set {${some([...value].map(inner))}}`;
  const name = value.constructor?.name ?? "";
  const fields = Object.keys(value).map((key) => `${/^[\w$]+$/.test(key) ? key : JSON.stringify(key)}: ${inner(value[key])}`);
  return `${name === "Object" || name === "" ? "" : `${name} `}{${some(fields)}}`;
};

// What the parser says of a program that goes on in the next line.
const unfinished = (error, code) => {
  if (!(error instanceof SyntaxError)) return false;
  const at = /:(\d+):\d+/.exec(error.stack ?? "");
  const last = code.trimEnd().split("\n").length;
  return /unexpected end|end of file|unterminated|''$|expecting '[\])}]'|unexpected token in expression: ''/i.test(error.message) && (!at || Number(at[1]) >= last);
};

// Lets promises and timers that are due have their turn.
const rest = () => new Promise((done) => os.setTimeout(done, 0));

const run = async (code) => {
  const value = /\bawait\b/.test(code) ? (await std.evalScript(code, { async: true })).value : std.evalScript(code);
  await rest();
  return value;
};

const talk = async () => {
  std.out.puts("JavaScript, QuickJS-NG 0.11.0 with std and os; Ctrl-D ends.\n");
  for (let code = ""; ; ) {
    std.out.puts(paint(32, code === "" ? "> " : "… "));
    std.out.flush();
    const line = std.in.getline();
    if (line === null && code === "") break;
    if (line === "\x03") { // Ctrl-C
      code = "";
      std.out.puts("\n(Ctrl-C again or Ctrl-D ends)\n");
      continue;
    }
    code += `${line ?? ""}\n`;
    try {
      const value = await run(code);
      if (value !== undefined) std.out.puts(`${show(value)}\n`);
      globalThis._ = value;
    } catch (error) {
      if (line !== null && line !== "" && unfinished(error, code)) continue;
      std.err.puts(`${paint(31, show(error))}\n`);
      std.err.flush();
    }
    code = "";
  }
  std.out.puts("\n");
};

const script = async () => {
  try {
    await run(std.in.readAsString());
  } catch (error) {
    std.out.flush();
    std.err.puts(`${show(error)}\n`);
    std.exit(1);
  }
};

flags.includes("-i") ? talk() : script();
