// The `openai` package, version 6, as its users call it.
import OpenAI, { toFile } from "openai";
import { assert, base, blue, download, isPicture, kind, leftHole, model, pixels, png, small, test } from "./kit.mjs";

const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "any", maxRetries: 0 });
const b64 = (item) => Buffer.from(item.b64_json, "base64");

async function refused(promise, status, check) {
  await assert.rejects(promise, (e) => {
    assert.ok(e instanceof OpenAI.APIError, String(e));
    assert.equal(e.status, status);
    check?.(e);
    return true;
  });
}

// ---- pictures ----

for (const format of ["png", "jpeg", "webp"])
  for (const way of ["url", "b64_json"])
    test(`openai: ${format} as ${way}`, async () => {
      const answer = await client.images.generate({ ...small, model, output_format: format, response_format: way });
      assert.equal(answer.data.length, 1);
      const item = answer.data[0];
      assert.equal(Object.hasOwn(item, way), true);
      isPicture(way === "url" ? await download(item.url) : b64(item), format);
      assert.equal(answer.output_format, format);
      assert.ok(Math.abs(answer.created - Date.now() / 1000) < 300);
    });

for (const name of ["reverie:1@1", "reverie-demo", "default", "dall-e-2", "dall-e-3"])
  test(`openai: model ${name}`, async () => {
    const answer = await client.images.generate({ ...small, model: name, response_format: "b64_json" });
    isPicture(b64(answer.data[0]), "png");
  });

test("openai: gpt-image-1 answers with base64 unasked", async () => {
  const answer = await client.images.generate({ ...small, model: "gpt-image-1" });
  isPicture(b64(answer.data[0]), "png");
  assert.ok(answer.usage.total_tokens > 0);
  assert.equal(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens);
});

for (const name of ["gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2", "chatgpt-image-latest"])
  test(`openai: model ${name} answers with base64 unasked`, async () =>
    isPicture(b64((await client.images.generate({ ...small, model: name })).data[0]), "png"));

test("openai: a model of somebody else is refused with what is served", () =>
  refused(client.images.generate({ ...small, model: "runware:101@1" }), 404, (e) => assert.match(e.message, /served here: .*reverie:1@1/)));

test("openai: without a model the default paints", async () => {
  const answer = await client.images.generate(small);
  isPicture(await download(answer.data[0].url), "png");
});

for (const n of [1, 2, 4])
  test(`openai: n ${n}`, async () => {
    const answer = await client.images.generate({ ...small, n, response_format: "b64_json" });
    assert.equal(answer.data.length, n);
    assert.equal(new Set(answer.data.map((d) => d.b64_json)).size, n);
    assert.deepEqual(answer.data.map((d) => d.seed), Array.from({ length: n }, (_, i) => 7 + i));
  });

test("openai: the same seed paints the same picture", async () => {
  const one = await client.images.generate({ ...small, response_format: "b64_json" });
  const two = await client.images.generate({ ...small, response_format: "b64_json" });
  const other = await client.images.generate({ ...small, seed: 8, response_format: "b64_json" });
  assert.equal(one.data[0].b64_json, two.data[0].b64_json);
  assert.notEqual(one.data[0].b64_json, other.data[0].b64_json);
});

test("openai: URL and base64 are the same bytes", async () => {
  const one = await client.images.generate({ ...small, response_format: "b64_json" });
  const two = await client.images.generate({ ...small, response_format: "url" });
  assert.deepEqual(b64(one.data[0]), await download(two.data[0].url));
});

test("openai: picture i of n is the picture of seed + i", async () => {
  const many = await client.images.generate({ ...small, n: 2, response_format: "b64_json" });
  const one = await client.images.generate({ ...small, seed: 8, response_format: "b64_json" });
  assert.equal(many.data[1].b64_json, one.data[0].b64_json);
});

for (const [members, expected] of [
  [{ size: "256x128" }, "256x128"], [{ size: "128x192" }, "128x192"], [{ size: "auto" }, "256x256"],
  [{ size: undefined }, "256x256"], [{ size: "16:9" }, "336x192"],
  [{ size: undefined, aspect_ratio: "2:1" }, "368x176"],
  [{ size: undefined, aspect_ratio: "1:1", resolution: "0.125K" }, "128x128"],
  [{ size: undefined, width: 160, height: 144 }, "160x144"]])
  test(`openai: size ${JSON.stringify(members)}`, async () => {
    const answer = await client.images.generate({ ...small, ...members, response_format: "b64_json" });
    isPicture(b64(answer.data[0]), "png", expected);
    assert.equal(answer.size, expected);
  });

test("openai: more compression makes smaller files", async () => {
  const bytes = async (output_compression) => b64((await client.images.generate({ ...small, output_format: "jpeg",
    output_compression, response_format: "b64_json" })).data[0]).length;
  assert.ok((await bytes(20)) < (await bytes(95)));
});

test("openai: parameters of Runware, fal and Replicate", async () => {
  const own = await client.images.generate({ ...small, steps: 2, CFGScale: 3, negative_prompt: "blue", response_format: "b64_json" });
  const fal = await client.images.generate({ ...small, steps: undefined, num_inference_steps: 2, guidance_scale: 3,
    negative_prompt: "blue", response_format: "b64_json" });
  assert.equal(own.data[0].b64_json, fal.data[0].b64_json);
  const uri = await client.images.generate({ ...small, sync_mode: true });
  assert.match(uri.data[0].url, /^data:image\/png;base64,/);
});

test("openai: what has no effect is told", async () => {
  const answer = await client.images.generate({ ...small, quality: "high", style: "vivid", user: "me", moderation: "low" });
  assert.ok(answer.warnings.some((w) => w.parameter === "style"));
  assert.equal(answer.quality, "high");
});

test("openai: four requests at once", async () => {
  const answers = await Promise.all([1, 2, 3, 4].map((seed) => client.images.generate({ ...small, seed, response_format: "b64_json" })));
  assert.equal(new Set(answers.map((a) => a.data[0].b64_json)).size, 4);
});

test("openai: every quality of every model", async () => {
  for (const quality of ["standard", "hd", "low", "medium", "high", "auto"])
    assert.equal((await client.images.generate({ ...small, quality })).quality, quality);
});

test("openai: prompts in every script, with signs and lines", async () => {
  const prompts = ["狐狸 🦊 ünï", "\"quoted\" \\ back\n\tline", "fox ".repeat(975), "\u200d\ufeffzero", "<b>&amp;</b> %s %n ${x}"];
  for (const prompt of prompts) isPicture(b64((await client.images.generate({ ...small, prompt, response_format: "b64_json" })).data[0]), "png");
});

test("openai: twenty requests at once", async () => {
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => client.images.generate({ ...small, seed: i, response_format: "b64_json" })));
  assert.deepEqual(answers.map((a) => a.data[0].seed), Array.from({ length: 20 }, (_, i) => i));
  assert.equal(new Set(answers.map((a) => a.data[0].b64_json)).size, 20);
});

test("openai: more requests than the queue holds come through by the client's own repeats", async () => {
  const patient = new OpenAI({ baseURL: `${base}/v1`, apiKey: "any", maxRetries: 8 });
  const answers = await Promise.all(Array.from({ length: 80 }, (_, i) => patient.images.generate({ ...small, seed: i })));
  assert.equal(answers.length, 80);
});

test("openai: a repeat under one Idempotency-Key gets the first answer", async () => {
  const key = `key ${Date.now()} ${Math.random()}`, body = { ...small, seed: undefined };
  const ask = (members) => client.images.generate({ ...body, ...members }, { headers: { "Idempotency-Key": key } });
  const one = await ask(), two = await ask();
  assert.deepEqual([one.data, one.id], [two.data, two.id]);
  assert.notEqual((await ask({ prompt: "something else", seed: 9 })).data[0].seed, one.data[0].seed);
  const other = await client.images.generate(body, { headers: { "Idempotency-Key": `${key}!` } });
  assert.notEqual(other.data[0].seed, one.data[0].seed);
});

test("openai: a streamed repeat under one Idempotency-Key ends with the same picture", async () => {
  const key = `key ${Date.now()} ${Math.random()}`;
  const last = async () => {
    let event;
    for await (event of await client.images.generate({ ...small, seed: undefined, stream: true }, { headers: { "Idempotency-Key": key } }));
    return [event.type, event.b64_json];
  };
  const one = await last();
  assert.equal(one[0], "image_generation.completed");
  assert.deepEqual(await last(), one);
});

test("openai: a request that takes too long for its client", async () => {
  await assert.rejects(client.images.generate({ ...small, steps: 500 }, { timeout: 200 }), OpenAI.APIConnectionTimeoutError);
  await assert.rejects(client.images.generate({ ...small, steps: 500 }, { signal: AbortSignal.timeout(200) }), OpenAI.APIUserAbortError);
  isPicture(await download((await client.images.generate(small)).data[0].url), "png");
});

test("openai: routes that are not here are clean errors", async () => {
  await refused(client.embeddings.create({ model, input: "x" }), 404);
  await refused(client.files.list(), 404);
  await refused(client.models.delete("dall-e-3"), 405);
  await refused(client.get("/images/generations"), 405);
  await refused(client.post("/images/generations", { body: [1] }), 400, (e) => assert.match(e.message, /JSON object/));
});

test("openai: the raw answer and its headers", async () => {
  const { data, response, request_id } = await client.images.generate(small).withResponse();
  assert.equal(response.status, 200);
  assert.ok(request_id);
  assert.equal(request_id, response.headers.get("x-request-id"));
  assert.equal(response.headers.get("x-lumenfall-model"), model);
  assert.equal(data._request_id, request_id);
});

test("openai: an aborted request ends at once", async () => {
  const control = new AbortController();
  const promise = client.images.generate({ ...small, steps: 500 }, { signal: control.signal });
  setTimeout(() => control.abort(), 200);
  await assert.rejects(promise, OpenAI.APIUserAbortError);
});

test("openai: the base URL of Lumenfall's clients", async () => {
  const other = new OpenAI({ baseURL: `${base}/openai/v1`, apiKey: "any" });
  isPicture(await download((await other.images.generate(small)).data[0].url), "png");
});

test("openai: a base URL with a slash at its end", async () => {
  const other = new OpenAI({ baseURL: `${base}/v1/`, apiKey: "any" });
  isPicture(await download((await other.images.generate(small)).data[0].url), "png");
});

test("openai: an estimate costs nothing to ask for", async () => {
  const answer = await client.images.generate({ prompt: "x", model: "hidream-i1-full", n: 2 }, { query: { dryRun: true } });
  assert.equal(answer.estimated, true);
  assert.equal(answer.total_cost_micros, 18000);
});

// ---- errors ----

for (const [what, members, status, param, text] of [
  ["no prompt", { prompt: undefined }, 400, "prompt", /prompt/],
  ["an empty prompt", { prompt: "" }, 400, "prompt", /prompt/],
  ["a bad size", { size: "100x100" }, 400, "size", /128/],
  ["a size that is none", { size: "big" }, 400, "size", /WIDTHxHEIGHT/],
  ["n 0", { n: 0 }, 400, "n", /n must be/],
  ["n 11", { n: 11 }, 400, "n", /10/],
  ["a bad format", { output_format: "bmp" }, 400, "output_format", /webp/],
  ["a bad response_format", { response_format: "file" }, 400, "response_format", /b64_json/],
  ["a seed that is a text", { seed: "x" }, 400, "seed", /seed must be/],
  ["no steps", { steps: 0 }, 400, "steps", /steps must be/],
  ["transparency", { background: "transparent" }, 400, "background", /opaque/],
  ["too many partial pictures", { stream: true, partial_images: 9 }, 400, "partial_images", /3/],
  ["an unknown model", { model: "no-such-model" }, 404, "model", /no-such-model/],
  ["a model that is not here", { model: "runware:1@1" }, 404, "model", /not served/]])
  test(`openai: ${what} is refused`, () => refused(client.images.generate({ ...small, ...members }), status, (e) => {
    assert.equal(e.param, param);
    assert.match(e.message, text);
    assert.equal(e.type, "invalid_request_error");
    assert.ok(e.code && e.requestID);
    assert.ok(status === 404 ? e instanceof OpenAI.NotFoundError : e instanceof OpenAI.BadRequestError);
  }));

test("openai: all problems are told at once", () =>
  refused(client.images.generate({ size: "1x1", n: 99, output_format: "gif" }), 400, (e) => {
    for (const word of [/prompt/, /size/, /n must/, /output_format/]) assert.match(e.message, word);
    assert.ok(e.error.details.length >= 4);
  }));

test("openai: what cannot be cured is not tried again", async () => {
  let calls = 0;
  const counting = new OpenAI({ baseURL: `${base}/v1`, apiKey: "any", maxRetries: 3, fetch: (...a) => (calls++, fetch(...a)) });
  await refused(counting.images.generate({ ...small, n: 0 }), 400);
  assert.equal(calls, 1);
});

test("openai: another route is a clean 404", () =>
  refused(client.chat.completions.create({ model, messages: [{ role: "user", content: "hi" }] }), 404, (e) =>
    assert.match(e.message, /images\/generations/)));

// ---- streams ----

for (const partial_images of [0, 1, 3])
  test(`openai: a stream with ${partial_images} partial pictures`, async () => {
    const stream = await client.images.generate({ ...small, model, steps: 4, stream: true, partial_images });
    const seen = [];
    for await (const event of stream) seen.push(event);
    const last = seen.pop();
    assert.equal(last.type, "image_generation.completed");
    isPicture(b64(last), "png");
    assert.ok(last.usage.total_tokens > 0);
    assert.ok(seen.length <= partial_images);
    if (partial_images) assert.ok(seen.length > 0);
    seen.forEach((event, i) => {
      assert.equal(event.type, "image_generation.partial_image");
      assert.equal(event.partial_image_index, i);
      assert.equal(kind(b64(event)), "png");
      assert.equal(event.size, "128x128");
    });
  });

test("openai: a stream ends with the picture of the plain request", async () => {
  const plain = await client.images.generate({ ...small, response_format: "b64_json" });
  let last;
  for await (const event of await client.images.generate({ ...small, stream: true })) last = event;
  assert.equal(last.b64_json, plain.data[0].b64_json);
});

test("openai: a stream of two pictures in WebP", async () => {
  const done = [];
  for await (const event of await client.images.generate({ ...small, n: 2, stream: true, output_format: "webp" }))
    if (event.type === "image_generation.completed") done.push(event);
  assert.equal(done.length, 2);
  done.forEach((event) => isPicture(b64(event), "webp"));
});

test("openai: a stream can be left", async () => {
  const stream = await client.images.generate({ ...small, steps: 300, stream: true, partial_images: 3 });
  for await (const event of stream) {
    assert.equal(event.type, "image_generation.partial_image");
    break;
  }
});

// ---- edits ----

const file = (bytes, name = "picture.png") => toFile(bytes, name, { type: "image/png" });

test("openai: an edit", async () => {
  const answer = await client.images.edit({ ...small, image: await file(blue), response_format: "b64_json" });
  isPicture(b64(answer.data[0]), "png");
  assert.ok(answer.usage.input_tokens_details.image_tokens > 0);
});

test("openai: an edit keeps what the mask does not open", async () => {
  const answer = await client.images.edit({ ...small, strength: 1, image: await file(blue), mask: await file(leftHole), response_format: "b64_json" });
  const p = pixels(b64(answer.data[0]));
  assert.deepEqual(p.at(120, 64), [20, 60, 200]);
  assert.notDeepEqual(p.at(10, 64), [20, 60, 200]);
});

test("openai: a picture with holes is its own mask", async () => {
  const holes = png(128, 128, (x) => [20, 60, 200, x < 64 ? 0 : 255]);
  const answer = await client.images.edit({ ...small, strength: 1, image: await file(holes), response_format: "b64_json" });
  assert.deepEqual(pixels(b64(answer.data[0])).at(120, 64), [20, 60, 200]);
});

test("openai: a list of one picture", async () => {
  const answer = await client.images.edit({ ...small, image: [await file(blue)], response_format: "b64_json" });
  isPicture(b64(answer.data[0]), "png");
});

test("openai: an edit without a size keeps the picture's", async () => {
  const wide = png(192, 128, () => [9, 9, 9, 255]);
  const answer = await client.images.edit({ ...small, size: undefined, image: await file(wide), response_format: "b64_json" });
  isPicture(b64(answer.data[0]), "png", "192x128");
});

test("openai: n, output_format and seed of an edit", async () => {
  const answer = await client.images.edit({ ...small, n: 2, output_format: "jpeg", image: await file(blue), response_format: "b64_json" });
  assert.deepEqual(answer.data.map((d) => d.seed), [7, 8]);
  answer.data.forEach((d) => isPicture(b64(d), "jpeg"));
});

test("openai: the same edit twice is the same picture", async () => {
  const once = async () => (await client.images.edit({ ...small, image: await file(blue), response_format: "b64_json" })).data[0].b64_json;
  assert.equal(await once(), await once());
});

test("openai: a streamed edit", async () => {
  const seen = [];
  for await (const event of await client.images.edit({ ...small, steps: 4, stream: true, partial_images: 1, image: await file(blue) }))
    seen.push(event.type);
  assert.equal(seen.at(-1), "image_edit.completed");
  assert.ok(seen.slice(0, -1).every((type) => type === "image_edit.partial_image"));
});

for (const [what, members, param] of [
  ["without a picture", {}, "image"],
  ["of a text file", { image: () => file(Buffer.from("hello")) }, "image"],
  ["with a broken mask", { image: () => file(blue), mask: () => file(Buffer.from("hello")) }, "mask"],
  ["of two pictures by a model for one", { image: async () => [await file(blue), await file(blue)] }, "image"],
  ["by a model that cannot", { image: () => file(blue), model: "hidream-i1-fast" }, "image"]])
  test(`openai: an edit ${what} is refused`, async () => {
    const body = { ...small };
    for (const [key, value] of Object.entries(members)) body[key] = typeof value === "function" ? await value() : value;
    await refused(client.images.edit(body), 400, (e) => assert.equal(e.param, param));
  });

test("openai: variations", async () => {
  const answer = await client.images.createVariation({ image: await file(blue), n: 2, size: "128x128", response_format: "b64_json" });
  assert.equal(answer.data.length, 2);
  answer.data.forEach((d) => isPicture(b64(d), "png"));
});

// ---- models ----

test("openai: the list of models", async () => {
  const ids = [];
  for await (const m of client.models.list()) {
    assert.equal(m.object, "model");
    assert.equal(typeof m.created, "number");
    assert.ok(m.owned_by);
    ids.push(m.id);
  }
  for (const id of ["reverie:1@1", "reverie-demo", "runware:97@3", "hidream-i1-fast"]) assert.ok(ids.includes(id), id);
});

for (const id of ["hidream-i1-fast", "runware:97@3", "fal/hidream-i1-fast", "reverie-demo"])
  test(`openai: model ${id} is described`, async () => assert.equal((await client.models.retrieve(id)).id, id));

test("openai: a model's schema", async () => {
  const found = await client.models.retrieve("hidream-i1-fast", { query: { schema: true } });
  assert.deepEqual(found.schema.required, ["prompt"]);
  assert.equal(found.schema.properties.steps.default, 16);
  assert.ok(found.schema.properties.num_inference_steps["x-providers"].includes("fal"));
});

test("openai: an unknown model is a 404", () => refused(client.models.retrieve("nothing"), 404));
