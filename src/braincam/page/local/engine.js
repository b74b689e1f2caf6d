// Who answers: this browser.

export { Local as Engine } from "./local.js";
