// The engine that asks a server. Another may stand in its place: see engine.js for what the page calls.

import { mapsOf, sliceOf } from "./picture.js";
import { Trouble } from "./trouble.js";

const WORDS = {
  403: "This server answers only to pages that it sent itself.",
  408: "The upload was too slow; try again with fewer files.",
  413: "That is too much at once.",
  415: "The server did not understand the upload.",
  503: "The server is busy.",
  504: "The answer took too long; send fewer slices at a time.",
};
const TRIES = 4;

export class Server {
  takes = "PNG, JPEG, TIFF, DICOM files of a series, or a NIfTI volume";
  where = "They are read in memory, on the machine that this page comes from, and forgotten.";

  /** @param {(wrong: boolean) => Promise<string>} askForToken called when the server wants one, or another */
  constructor(askForToken) {
    this.askForToken = askForToken;
    this.token = "";
  }

  async model() {
    return this.#ask("v1/model", {});
  }

  async answer(files, say, signal) {
    say(`Reading ${files.length === 1 ? files[0].name : `${files.length} files`} …`);
    const body = new FormData();
    for (const file of files) {
      await file.slice(0, 1).arrayBuffer().catch(() => {
        throw new Trouble(`${file.name} cannot be read. Is it a folder, or was it moved since it was chosen?`);
      });
      body.append("files", file, file.name);
    }
    const { predictions, studies } = await this.#ask("v1/predict?pictures=true", { method: "POST", body, signal });
    const studyOf = new Map(studies.flatMap((study) => study.rows.map((row) => [row, study])));
    return Promise.all(
      predictions.map(async (answer, row) => ({
        answer,
        slice: await sliceOf(answer),
        maps: mapsOf(answer),
        study: studyOf.get(row),
      })),
    );
  }

  async #ask(path, options) {
    const response = await this.#call(path, options);
    try {
      return await response.json();
    } catch {
      throw new Trouble("The answer broke off on its way. Try again.");
    }
  }

  async #call(path, options) {
    for (let attempt = 1; ; attempt++) {
      let response;
      try {
        const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
        response = await fetch(path, { ...options, headers });
      } catch {
        throw new Trouble(
          `The server cannot be reached${options.body ? ", or ended the upload: send fewer files" : ""}. Is it still running?`,
        );
      }
      if (response.ok) return response;
      if (response.status === 401) {
        this.token = await this.askForToken(Boolean(this.token));
        if (!this.token) throw new Trouble("Without the token this server does not answer.");
      } else if (response.status === 503 && attempt < TRIES) {
        const wait = Number(response.headers.get("Retry-After")) || 1;
        await new Promise((done) => setTimeout(done, wait * 1000));
      } else {
        const said = await response.json().catch(() => ({}));
        const detail = typeof said.detail === "string" ? ` (${said.detail})` : "";
        throw new Trouble((WORDS[response.status] ?? `The server answered ${response.status}.`) + detail);
      }
    }
  }
}
