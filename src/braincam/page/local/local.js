// The engine that answers in the browser: nothing leaves the machine.

import * as ort from "./onnxruntime/ort.wasm.min.mjs";
import { decide, failed } from "./decide.js";
import { greySlice } from "./pixels.js";
import { Unreadable } from "./png.js";
import { Trouble } from "./trouble.js";

ort.env.wasm.wasmPaths = new URL("./onnxruntime/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more would need headers that plain file hosts do not send

export class Local {
  takes = "PNG or JPEG";
  where = "They are read in this browser and never leave this machine.";
  #card = null;
  #session = null;

  async model() {
    this.#card ??= await fetchFile("model.json", (response) => response.json());
    return this.#card;
  }

  async answer(files, say, signal) {
    say("Loading the model …");
    const [model, session] = [await this.model(), await this.#load(say)];
    const rows = [];
    for (const [number, file] of files.entries()) {
      if (signal?.aborted) break;
      say(files.length === 1 ? `Reading ${file.name} …` : `Reading ${number + 1} of ${files.length} files …`);
      await new Promise((done) => setTimeout(done)); // so that the page can say it
      rows.push(await this.#row(file, model, session));
    }
    return rows;
  }

  async #row(file, model, session) {
    let grey, found;
    try {
      grey = await greySlice(file);
      found = await session.run({ image: new ort.Tensor("uint8", grey.pixels, [1, grey.height, grey.width]) });
    } catch (error) {
      const why = error instanceof Unreadable ? error.message : `the model failed on this slice (${error.message})`;
      return { answer: failed(file.name, why, model), slice: null, maps: null };
    }
    const { pixels, width, height } = grey;
    const { classes } = model.card;
    const [, , rows, columns] = found.cam.dims;
    const size = rows * columns;
    return {
      answer: decide(file.name, grey.colourful, found.probabilities.data, found.outlier_score.data[0], model),
      slice: await asBitmap(pixels, width, height),
      maps: {
        height: rows,
        width: columns,
        of: Object.fromEntries(classes.map((name, k) => [name, found.cam.data.slice(k * size, (k + 1) * size)])),
      },
    };
  }

  async #load(say) {
    this.#session ??= fetchFile("model.onnx", (response) => bytesOf(response, say)).then((bytes) =>
      ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] }),
    );
    try {
      return await this.#session;
    } catch (error) {
      this.#session = null; // the next try starts anew
      if (error instanceof Trouble) throw error;
      throw new Trouble(`The model cannot run in this browser (${error.message}); it needs WebAssembly with SIMD.`);
    }
  }
}

async function fetchFile(name, read) {
  try {
    const response = await fetch(new URL(`./${name}`, import.meta.url));
    if (!response.ok) throw new Error(`answer ${response.status}`);
    return await read(response);
  } catch (error) {
    throw new Trouble(`${name} cannot be loaded (${error.message}); was the whole folder copied, and is it served over http?`);
  }
}

async function bytesOf(response, say) {
  const total = Number(response.headers.get("Content-Length"));
  const parts = [];
  let loaded = 0;
  for await (const part of streamed(response.body)) {
    parts.push(part);
    loaded += part.length;
    if (total >= loaded) say(`Loading the model, ${Math.round((100 * loaded) / total)} % …`);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function* streamed(body) {
  const reader = body.getReader(); // not every browser can iterate over a stream itself
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

async function asBitmap(pixels, width, height) {
  const picture = new ImageData(width, height);
  pixels.forEach((value, i) => picture.data.set([value, value, value, 255], 4 * i));
  return createImageBitmap(picture);
}
