// What an application does with the official library, nothing of ours in it: the
// address and the key come from OPENAI_BASE_URL and OPENAI_API_KEY.
import OpenAI from "openai";

const client = new OpenAI();
const model = "book-trigrams";
const out = { tokens: 0 };

const models = [];
for await (const m of await client.models.list()) models.push(m.id);
out.models = models;
out.retrieved = (await client.models.retrieve(model)).id;

const messages = [{ role: "user", content: "The light of the" }];
const chat = await client.chat.completions.create({ model, messages, max_tokens: 20 });
out.chat = chat.choices[0].message.content;
out.tokens += chat.usage.total_tokens;

let streamed = "";
let usage = null;
for await (const part of await client.chat.completions.create({
  model, messages, max_tokens: 20, stream: true, stream_options: { include_usage: true },
})) {
  streamed += part.choices[0]?.delta?.content ?? "";
  usage = part.usage ?? usage;
}
out.streamed = streamed;
out.tokens += usage.total_tokens;

// Without asking for usage none comes: the event that it was metered by stays out.
out.unasked = 0;
for await (const part of await client.chat.completions.create({ model, messages, max_tokens: 20, stream: true })) {
  if (part.usage) out.unasked++;
}

const text = await client.completions.create({ model, prompt: "The Rays of", max_tokens: 10 });
out.text = text.choices[0].text;
out.tokens += text.usage.total_tokens;

const vectors = await client.embeddings.create({ model, input: ["light", "a prism and light"] });
out.dimensions = vectors.data.map((v) => v.embedding.length);
out.tokens += vectors.usage.total_tokens;

try {
  await client.chat.completions.create({ model: "gpt-none", messages });
} catch (err) {
  out.unknown = err.status;
}
try {
  await new OpenAI({ apiKey: "wrong-key", maxRetries: 0 }).models.list();
} catch (err) {
  out.wrong = [err.status, err.constructor.name];
}
try {
  await new OpenAI({ maxRetries: 0 }).files.list();
} catch (err) {
  out.denied = [err.status, err.constructor.name];
}
console.log(JSON.stringify(out));
