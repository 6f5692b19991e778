// @runware/sdk-js over WebSocket.
import { Runware } from "@runware/sdk-js";
import { assert, base, blue, download, isPicture, pixels, png, test, tiny } from "./kit.mjs";

const url = `${base.replace("http", "ws")}/generate`;
const formats = { PNG: "png", JPG: "jpeg", WEBP: "webp" };

// Every test has its own connection and closes it.
function withClient(run, settings = {}) {
  return async () => {
    const client = await Runware.initialize({ apiKey: "any", url, shouldReconnect: false, timeoutDuration: 60000, globalMaxRetries: 0, ...settings });
    try {
      await client.ensureConnection();
      return await run(client);
    } finally {
      await client.disconnect();
    }
  };
}

async function bytesOf(item) {
  if (item.imageURL) return download(item.imageURL);
  return Buffer.from(item.imageBase64Data ?? item.imageDataURI.split(",")[1], "base64");
}

test("sdk-js: connects and authenticates", withClient(async (client) => assert.equal(client.connected ? client.connected() : true, true)));

for (const outputType of ["URL", "base64Data", "dataURI"])
  for (const outputFormat of ["PNG", "JPG", "WEBP"])
    test(`sdk-js: ${outputFormat} as ${outputType}`, withClient(async (client) => {
      const images = await client.imageInference({ ...tiny, outputType, outputFormat });
      assert.equal(images.length, 1);
      const key = { URL: "imageURL", base64Data: "imageBase64Data", dataURI: "imageDataURI" }[outputType];
      assert.ok(images[0][key]);
      isPicture(await bytesOf(images[0]), formats[outputFormat]);
      assert.equal(images[0].seed, 7);
      assert.ok(images[0].imageUUID && images[0].taskUUID);
    }));

for (const numberResults of [2, 5])
  test(`sdk-js: numberResults ${numberResults}`, withClient(async (client) => {
    const images = await client.imageInference({ ...tiny, numberResults, outputType: "base64Data" });
    assert.equal(images.length, numberResults);
    assert.deepEqual(images.map((i) => i.seed).sort((a, b) => a - b), Array.from({ length: numberResults }, (_, i) => 7 + i));
    assert.equal(new Set(images.map((i) => i.imageBase64Data)).size, numberResults);
  }));

test("sdk-js: pictures as they finish", withClient(async (client) => {
  const parts = [];
  const images = await client.imageInference({ ...tiny, numberResults: 3, onPartialImages: (found) => parts.push(...found) });
  assert.equal(images.length, 3);
  assert.ok(parts.length >= 3);
}));

test("sdk-js: three requests at once on one connection", withClient(async (client) => {
  const all = await Promise.all([1, 2, 3].map((seed) => client.imageInference({ ...tiny, seed, outputType: "base64Data" })));
  assert.deepEqual(all.map((images) => images[0].seed), [1, 2, 3]);
}));

test("sdk-js: seeds are reproducible", withClient(async (client) => {
  const once = async (seed) => (await client.imageInference({ ...tiny, seed, outputType: "base64Data" }))[0].imageBase64Data;
  assert.equal(await once(21), await once(21));
  assert.notEqual(await once(21), await once(22));
}));

test("sdk-js: cost when asked for", withClient(async (client) => {
  const [image] = await client.imageInference({ ...tiny, includeCost: true });
  assert.ok(image.imageURL);
}));

for (const [what, members, text] of [
  ["a bad width", { width: 100 }, /width/], ["an unknown model", { model: "runware:1@1" }, /not served/],
  ["a wrong type", { steps: "two" }, /steps/], ["an unknown parameter", { colour: "red" }, /colour/],
  ["a value below its range", { CFGScale: -1 }, /CFGScale/]])
  test(`sdk-js: ${what} is told`, withClient((client) => assert.rejects(
    client.imageInference({ ...tiny, ...members }), (e) => {
      assert.match(JSON.stringify(e?.error ?? e?.message ?? e), text);
      return true;
    })));

test("sdk-js: a connection goes on after an error", withClient(async (client) => {
  await assert.rejects(client.imageInference({ ...tiny, width: 100 }));
  isPicture(await bytesOf((await client.imageInference({ ...tiny, outputFormat: "PNG" }))[0]), "png");
}));

test("sdk-js: ten requests at once, each with its own answer", withClient(async (client) => {
  const all = await Promise.all(Array.from({ length: 10 }, (_, i) => client.imageInference({ ...tiny, seed: i + 1 })));
  assert.deepEqual(all.map((images) => images[0].seed), Array.from({ length: 10 }, (_, i) => i + 1));
}));

test("sdk-js: twenty results", withClient(async (client) =>
  assert.equal((await client.imageInference({ ...tiny, numberResults: 20 })).length, 20)));

test("sdk-js: two connections side by side", withClient((one) => withClient(async (two) => {
  const [a, b] = await Promise.all([one.imageInference(tiny), two.imageInference({ ...tiny, seed: 8 })]);
  assert.deepEqual([a[0].seed, b[0].seed], [7, 8]);
})()));

test("sdk-js: a seed is drawn where none is given", withClient(async (client) =>
  assert.ok((await client.imageInference({ ...tiny, seed: undefined }))[0].seed > 0)));

test("sdk-js: a taskUUID of one's own", withClient(async (client) => {
  const customTaskUUID = crypto.randomUUID();
  assert.equal((await client.imageInference({ ...tiny, customTaskUUID }))[0].taskUUID, customTaskUUID);
}));

test("sdk-js: prompts in every script, and long ones", withClient(async (client) => {
  for (const positivePrompt of ["狐狸 🦊 ünï", "\"quoted\"\n\\", "fox ".repeat(700)])
    assert.equal((await client.imageInference({ ...tiny, positivePrompt })).length, 1);
}));

test("sdk-js: goes on after its connection broke", withClient(async (client) => {
  assert.equal((await client.imageInference(tiny)).length, 1);
  client._ws.close();
  await new Promise((go) => setTimeout(go, 300));
  assert.equal((await client.imageInference(tiny)).length, 1);
}, { shouldReconnect: true, globalMaxRetries: 2 }));

for (const [what, call] of [
  ["upscaling", (client) => client.upscaleGan({ inputImage: uri(blue), upscaleFactor: 2 })],
  ["removing a background", (client) => client.removeImageBackground({ inputImage: uri(blue) })],
  ["captions", (client) => client.requestImageToText({ inputImage: uri(blue) })],
  ["better prompts", (client) => client.enhancePrompt({ prompt: "fox", promptMaxLength: 64, promptVersions: 1 })],
  ["a search for models", (client) => client.modelSearch({ search: "hidream" })]])
  test(`sdk-js: ${what} is refused at once`, withClient((client) => assert.rejects(call(client),
    (e) => /unsupportedTaskType/.test(JSON.stringify(e?.error ?? e?.message)))));

// ---- tasks that are asked for later ----

async function finished(client, taskUUID, count = 1) {
  for (let left = 600; left; left--) {
    const items = await client.getResponse({ taskUUID });
    if (items.length === count && items.every((i) => i.status === "success")) return items;
    await new Promise((go) => setTimeout(go, 100));
  }
  throw new Error("the task did not end");
}

test("sdk-js: async, then getResponse", withClient(async (client) => {
  const [now] = await client.imageInference({ ...tiny, outputType: "base64Data", outputFormat: "PNG" });
  const [ack] = await client.imageInference({ ...tiny, outputType: "base64Data", outputFormat: "PNG", deliveryMethod: "async" });
  assert.equal(ack.imageBase64Data, undefined);
  const [later] = await finished(client, ack.taskUUID);
  assert.equal(later.imageBase64Data, now.imageBase64Data);
  assert.equal(later.seed, 7);
}));

test("sdk-js: several pictures of an async task", withClient(async (client) => {
  const [ack] = await client.imageInference({ ...tiny, numberResults: 3, deliveryMethod: "async" });
  const items = await finished(client, ack.taskUUID, 3);
  for (const item of items) isPicture(await bytesOf(item), "jpeg");
  assert.deepEqual(items.map((i) => i.seed).sort((a, b) => a - b), [7, 8, 9]);
}));

test("sdk-js: the answer of an async task can be asked for again, by another connection", withClient(async (client) => {
  const [ack] = await client.imageInference({ ...tiny, deliveryMethod: "async" });
  const first = await finished(client, ack.taskUUID);
  await withClient(async (other) => assert.deepEqual(await finished(other, ack.taskUUID), first))();
}));

test("sdk-js: an async task that is refused", withClient((client) => assert.rejects(
  client.imageInference({ ...tiny, width: 100, deliveryMethod: "async" }), (e) => /width/.test(JSON.stringify(e?.error ?? e?.message)))));

// ---- pictures that are sent along ----

const uri = (bytes) => `data:image/png;base64,${bytes.toString("base64")}`;

test("sdk-js: an uploaded picture to start from", withClient(async (client) => {
  const { imageUUID } = await client.uploadImage(uri(blue));
  const [image] = await client.imageInference({ ...tiny, seedImage: imageUUID, strength: 0.5 });
  assert.ok(image.imageURL);
}));

test("sdk-js: a picture to start from", withClient(async (client) => {
  const [image] = await client.imageInference({ ...tiny, seedImage: uri(blue), strength: 0.5, outputFormat: "PNG" });
  isPicture(await bytesOf(image), "png");
}));

test("sdk-js: a mask keeps what is black", withClient(async (client) => {
  const mask = png(128, 128, (x) => (x < 64 ? [255, 255, 255, 255] : [0, 0, 0, 255]));
  const [image] = await client.imageInference({ ...tiny, seedImage: uri(blue), maskImage: uri(mask), strength: 1, outputFormat: "PNG",
    outputType: "base64Data" });
  const p = pixels(await bytesOf(image));
  assert.deepEqual(p.at(120, 64), [20, 60, 200]);
  assert.notDeepEqual(p.at(10, 64), [20, 60, 200]);
}));
