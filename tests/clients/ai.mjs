// The AI SDK: `ai` with @ai-sdk/openai, @ai-sdk/openai-compatible and @runware/ai-sdk-provider.
import { generateImage, NoImageGeneratedError } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { createRunware } from "@runware/ai-sdk-provider";
globalThis.AI_SDK_LOG_WARNINGS = false; // the provider reports each answer as a warning
import { assert, base, blue, isPicture, leftHole, model, pixels, test } from "./kit.mjs";

const prompt = "a red circle";
const openai = createOpenAI({ baseURL: `${base}/v1`, apiKey: "any" });
const compatible = createOpenAICompatible({ name: "reverie", baseURL: `${base}/v1`, apiKey: "any" });
const runware = createRunware({ baseURL: `${base}/generate`, apiKey: "any" });
const quick = { maxRetries: 0 };

// ---- @ai-sdk/openai ----

for (const name of [model, "reverie-demo", "gpt-image-1", "dall-e-3"])
  test(`@ai-sdk/openai: model ${name}`, async () => {
    const { image, images, warnings } = await generateImage({ ...quick, model: openai.image(name), prompt, size: "128x128" });
    assert.equal(images.length, 1);
    assert.equal(image.mediaType, "image/png");
    isPicture(image.uint8Array, "png");
    assert.deepEqual(warnings, []);
  });

test("@ai-sdk/openai: several pictures are several requests", async () => {
  const { images } = await generateImage({ ...quick, model: openai.image(model), prompt, n: 3, size: "128x128" });
  assert.equal(new Set(images.map((i) => i.base64)).size, 3);
  assert.equal(images.length, 3);
  images.forEach((i) => isPicture(i.uint8Array, "png"));
});

for (const format of ["jpeg", "webp"])
  test(`@ai-sdk/openai: ${format}`, async () => {
    const { image } = await generateImage({ ...quick, model: openai.image(model), prompt, size: "128x128",
      providerOptions: { openai: { outputFormat: format, outputCompression: 60 } } });
    assert.equal(image.mediaType, `image/${format}`);
    isPicture(image.uint8Array, format);
  });

test("@ai-sdk/openai: a seed is said to be without effect", async () => {
  const { warnings } = await generateImage({ ...quick, model: openai.image(model), prompt, size: "128x128", seed: 5 });
  assert.ok(warnings.some((w) => w.feature === "seed"));
});

test("@ai-sdk/openai: usage", async () => {
  const { usage } = await generateImage({ ...quick, model: openai.image(model), prompt, size: "128x128" });
  assert.ok(usage.totalTokens > 0);
});

test("@ai-sdk/openai: an edit with a mask", async () => {
  const { image } = await generateImage({ ...quick, model: openai.image(model), size: "128x128",
    prompt: { text: prompt, images: [blue], mask: leftHole } });
  assert.deepEqual(pixels(image.uint8Array).at(120, 64), [20, 60, 200]);
});

for (const [what, options, text] of [
  ["a bad size", { size: "100x100" }, /size/], ["an unknown model", { model: openai.image("no-such-model") }, /no-such-model/],
  ["an empty prompt", { prompt: "" }, /prompt/]])
  test(`@ai-sdk/openai: ${what} is told`, () => assert.rejects(
    generateImage({ ...quick, model: openai.image(model), prompt, size: "128x128", ...options }), (e) => {
      assert.match(e.message, text);
      assert.ok(e.statusCode === 400 || e.statusCode === 404);
      assert.equal(e.isRetryable, false);
      return true;
    }));

// ---- @ai-sdk/openai-compatible ----

test("@ai-sdk/openai-compatible: two pictures", async () => {
  const { images } = await generateImage({ ...quick, model: compatible.imageModel(model), prompt, n: 2, size: "128x128",
    providerOptions: { reverie: { steps: 1, seed: 3 } } });
  assert.equal(images.length, 2);
  images.forEach((i) => isPicture(i.uint8Array, "png"));
});

test("@ai-sdk/openai-compatible: an edit", async () => {
  const { image } = await generateImage({ ...quick, model: compatible.imageModel(model), size: "128x128",
    prompt: { text: prompt, images: [blue] }, providerOptions: { reverie: { steps: 1 } } });
  isPicture(image.uint8Array, "png");
});

test("@ai-sdk/openai-compatible: an error with its message", () => assert.rejects(
  generateImage({ ...quick, model: compatible.imageModel(model), prompt, size: "100x100" }), /size/));

// ---- @runware/ai-sdk-provider ----

const options = (members) => ({ providerOptions: { runware: { steps: 1, ...members } } });

test("@runware/ai-sdk-provider: a picture", async () => {
  const { image, warnings } = await generateImage({ ...quick, model: runware.image(model), prompt, size: "128x128", ...options() });
  isPicture(image.uint8Array, "png");
  assert.ok(warnings.every((w) => w.type === "other"));
});

for (const way of ["URL", "base64Data", "dataURI"])
  for (const format of ["PNG", "JPG", "WEBP"])
    test(`@runware/ai-sdk-provider: ${format} as ${way}`, async () => {
      const { image } = await generateImage({ ...quick, model: runware.image(model), prompt, size: "128x128",
        ...options({ outputType: way, outputFormat: format }) });
      isPicture(image.uint8Array, { PNG: "png", JPG: "jpeg", WEBP: "webp" }[format]);
    });

test("@runware/ai-sdk-provider: four pictures", async () => {
  const { images } = await generateImage({ ...quick, model: runware.image(model), prompt, n: 4, size: "128x128", ...options() });
  assert.equal(images.length, 4);
  assert.equal(new Set(images.map((i) => i.base64)).size, 4);
});

test("@runware/ai-sdk-provider: seeds are reproducible", async () => {
  const once = async (seed) => (await generateImage({ ...quick, model: runware.image(model), prompt, size: "128x128", seed, ...options() })).image.base64;
  assert.equal(await once(11), await once(11));
  assert.notEqual(await once(11), await once(12));
});

test("@runware/ai-sdk-provider: alias and default size", async () => {
  const { image } = await generateImage({ ...quick, model: runware.image("reverie-demo"), prompt, ...options() });
  isPicture(image.uint8Array, "png", "512x512");
});

test("@runware/ai-sdk-provider: the same picture as through @ai-sdk/openai-compatible", async () => {
  const one = await generateImage({ ...quick, model: runware.image(model), prompt, size: "128x128", seed: 9, ...options() });
  const two = await generateImage({ ...quick, model: compatible.imageModel(model), prompt, size: "128x128",
    providerOptions: { reverie: { seed: 9, steps: 1 } } });
  assert.deepEqual(pixels(one.image.uint8Array).at(64, 64), pixels(two.image.uint8Array).at(64, 64));
});

for (const [what, change, text] of [
  ["a bad width", { size: "100x100" }, /width/], ["an unknown model", { model: runware.image("runware:1@1") }, /not served/],
  ["a wrong parameter", options({ CFGScale: -1 }), /CFGScale/]])
  test(`@runware/ai-sdk-provider: ${what} is told`, () => assert.rejects(
    generateImage({ ...quick, model: runware.image(model), prompt, size: "128x128", ...options(), ...change }), (e) => {
      assert.ok(!NoImageGeneratedError.isInstance(e), "the server's own message must come through");
      assert.match(e.message, text);
      return true;
    }));
