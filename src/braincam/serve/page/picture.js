// Slices and heat maps on canvases. The colours are those of the pictures that `braincam predict --out` writes.

const STOPS = [
  [0.0, 72, 16, 112], [0.2, 136, 34, 106], [0.4, 190, 56, 84], [0.6, 232, 98, 46], [0.8, 250, 164, 28], [1.0, 252, 248, 158],
];

/** 256 colours from the least to the most evidence, lightness rising all the way. */
export const COLOURS = Array.from({ length: 256 }, (_, i) => {
  const t = i / 255;
  const after = Math.max(1, STOPS.findIndex(([place]) => place >= t));
  const [from, to] = [STOPS[after - 1], STOPS[after]];
  const share = (t - from[0]) / (to[0] - from[0]);
  return [1, 2, 3].map((channel) => Math.round(from[channel] + share * (to[channel] - from[channel])));
});

/** The maps of a row: {height, width, of: class → Float32Array}, or null. */
export function mapsOf(row) {
  if (!row.cam) return null;
  const bytes = Uint8Array.from(atob(row.cam.data), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const { height, width, classes } = row.cam;
  const size = height * width;
  const of = {};
  classes.forEach((name, k) => {
    of[name] = Float32Array.from({ length: size }, (_, i) => view.getFloat32(4 * (k * size + i), true));
  });
  return { height, width, of };
}

/** @returns {Promise<ImageBitmap | null>} the grey slice */
export async function sliceOf(row) {
  if (!row.picture) return null;
  const bytes = Uint8Array.from(atob(row.picture), (c) => c.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }));
}

/** A map as a small coloured picture: nothing at zero and below, more opaque where there is more evidence. */
function coloured(values, width, height, top) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  values.forEach((value, i) => {
    const strength = top > 0 ? Math.min(Math.max(value / top, 0), 1) : 0;
    const [red, green, blue] = COLOURS[Math.round(strength * 255)];
    const opacity = Math.sqrt(strength) * Math.min(strength * 4, 1);
    picture.data.set([red, green, blue, Math.round(255 * opacity)], 4 * i);
  });
  context.putImageData(picture, 0, 0);
  return canvas;
}

/** Draw a slice, and a map over it, as large as the canvas allows. Returns the most evidence in the map. */
export function draw(canvas, slice, maps, name, opacity) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  if (!slice) {
    context.fillStyle = "#aab3c0";
    context.font = "16px system-ui, sans-serif";
    context.textAlign = "center";
    context.fillText("no picture could be read", width / 2, height / 2);
    return 0;
  }
  const scale = Math.min(width / slice.width, height / slice.height);
  const box = [(width - slice.width * scale) / 2, (height - slice.height * scale) / 2, slice.width * scale, slice.height * scale];
  context.imageSmoothingQuality = "high";
  context.drawImage(slice, ...box);
  const values = maps?.of[name];
  if (!values) return 0;
  const top = values.reduce((most, value) => Math.max(most, value), 0);
  if (top > 0 && opacity > 0) {
    context.globalAlpha = opacity;
    context.save();
    context.beginPath();
    context.rect(...box);
    context.clip();
    context.drawImage(coloured(values, maps.width, maps.height, top), ...box);
    context.restore();
    context.globalAlpha = 1;
  }
  return top;
}

/** A small picture of a slice, square. */
export function thumbnail(slice, side = 136) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, side, side);
  if (slice) {
    const scale = side / Math.max(slice.width, slice.height);
    const [width, height] = [slice.width * scale, slice.height * scale];
    context.drawImage(slice, (side - width) / 2, (side - height) / 2, width, height);
  }
  return canvas;
}

/** The colour scale, left to right. */
export function drawScale(canvas) {
  const context = canvas.getContext("2d");
  COLOURS.forEach(([red, green, blue], i) => {
    context.fillStyle = `rgb(${red} ${green} ${blue})`;
    context.fillRect(i, 0, 1, 1);
  });
}
