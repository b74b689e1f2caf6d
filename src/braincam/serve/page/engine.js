// Who answers: here the server that sent the page. `braincam page` puts another file in this one's place.
//
// An engine has two sentences for the page, `takes` and `where`, and two calls:
// `answer(files, say, signal)` → [{answer: a prediction as the API documents it, slice: ImageBitmap | null, maps: see
// picture.js, study: what the API says of its volume; none where it has none}]; after `signal` is aborted nobody waits
// for them
// `model()` → {name, sha256, card}

export { Server as Engine } from "./server.js";
