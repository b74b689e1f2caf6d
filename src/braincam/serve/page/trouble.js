/** What went wrong, in words for the person at the page. */
export class Trouble extends Error {}
