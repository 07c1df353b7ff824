// Pictures to numbers: size, channels and range that a model's input asks for.

const MOST_BYTES = 64e6;
const MOST_PIXELS = 100e6;

export class InputError extends Error {}

// How a tensor of this shape holds a picture: {order, height, width, channels}, null standing for what is free; null
// where it can hold none. `shape` is that of one picture.
export function imageLayout(shape) {
  if (shape === null) return null;
  const side = (size) => size === null || size >= 4;
  const colours = (size) => size === 1 || size === 3 || size === 4;
  if (shape.length === 3) {
    const [a, b, c] = shape;
    if (side(a) && side(b) && (colours(c) || (c === null && (a !== null || b !== null)))) {
      return { order: "HWC", height: a, width: b, channels: c };
    }
    if (a === null && b === null && c === null) return { order: "HWC", height: null, width: null, channels: null };
    if (colours(a) && side(b) && side(c)) return { order: "CHW", height: b, width: c, channels: a };
  }
  if (shape.length === 2 && shape.every((size) => size !== null && size >= 8)) {
    return { order: "HW", height: shape[0], width: shape[1], channels: 1 };
  }
  if (shape.length === 1 && shape[0] >= 64) {
    for (const channels of [1, 3]) {
      const side = Math.sqrt(shape[0] / channels);
      if (Number.isInteger(side)) return { order: "HWC flat", height: side, width: side, channels };
    }
  }
  return null;
}

export const RANGES = {
  unit: ["0 to 1", (value) => value / 255],
  signed: ["−1 to 1", (value) => value / 127.5 - 1],
  bytes: ["0 to 255", (value) => value],
  imagenet: [
    "ImageNet mean and deviation",
    (value, c) => (value / 255 - [0.485, 0.456, 0.406][c]) / [0.229, 0.224, 0.225][c],
  ],
  centred: ["0 to 255, less ImageNet's mean", (value, c) => value - [123.68, 116.779, 103.939][c]],
};

export const FITS = { stretch: "Stretch", crop: "Fill and crop", pad: "Fit and pad" };

export const CHANNELS = { rgb: ["RGB", 3], bgr: ["BGR", 3], gray: ["Grey", 1], rgba: ["RGBA", 4] };

// An ImageBitmap of what is in `file`. Raises InputError.
export async function decode(file) {
  if (file.size > MOST_BYTES) {
    throw new InputError(`${file.name} has ${Math.round(file.size / 1e6)} MB; this form takes pictures of up to 64 MB.`);
  }
  if (file.type && !file.type.startsWith("image/")) {
    throw new InputError(`${file.name} is not a picture (it is ${file.type}). PNG, JPEG, WebP, GIF, BMP and AVIF are.`);
  }
  const size = announcedSize(new DataView(await file.slice(0, 1 << 16).arrayBuffer()));
  if (size && size[0] * size[1] > MOST_PIXELS) {
    throw new InputError(
      `${file.name} is huge: ${size[0]} × ${size[1]} pixels. This form takes up to 100 million; make it smaller first.`,
    );
  }
  try {
    return await createImageBitmap(file);
  } catch {
    throw new InputError(`${file.name} cannot be read as a picture: it is damaged, or of a kind this browser does not know.`);
  }
}

// Width and height as the head of a PNG or JPEG tells them, before it is unpacked; null where it does not.
function announcedSize(view) {
  if (view.byteLength > 24 && view.getUint32(0) === 0x89504e47) return [view.getUint32(16), view.getUint32(20)];
  if (view.byteLength > 4 && view.getUint16(0) === 0xffd8) {
    let at = 2;
    while (at + 9 < view.byteLength && view.getUint8(at) === 0xff) {
      const marker = view.getUint8(at + 1);
      const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
      if (isFrame) return [view.getUint16(at + 7), view.getUint16(at + 5)];
      at += 2 + view.getUint16(at + 2);
    }
  }
  return null;
}

// Draws `picture` on a canvas of the wanted size.
export function fitted(picture, width, height, fit) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const scales = [width / picture.width, height / picture.height];
  const scale = fit === "crop" ? Math.max(...scales) : Math.min(...scales);
  const w = fit === "stretch" ? width : picture.width * scale;
  const hh = fit === "stretch" ? height : picture.height * scale;
  context.drawImage(picture, (width - w) / 2, (height - hh) / 2, w, hh);
  return canvas;
}

// What the model gets, as a picture again: grey where it sees no colour, and inverted where that is asked for.
export function shownTo(canvas, channels, invert) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const data = pixels.data;
  for (let i = 0; i < data.length; i += 4) {
    if (channels !== "rgba") {
      // What is transparent lies on black, as most libraries read it.
      const alpha = data[i + 3] / 255;
      for (let c = 0; c < 3; c += 1) data[i + c] *= alpha;
      data[i + 3] = 255;
    }
    if (channels === "gray") {
      data[i] = data[i + 1] = data[i + 2] = Math.round(0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]);
    }
    if (invert) for (let c = 0; c < 3; c += 1) data[i + c] = 255 - data[i + c];
  }
  context.putImageData(pixels, 0, 0);
  return data;
}

// The JSON text of the tensor for `data` (RGBA, as a canvas has it).
export function tensorText(data, { order, height, width }, channels, range, integers) {
  const places = { rgb: [0, 1, 2], bgr: [2, 1, 0], gray: [0], rgba: [0, 1, 2, 3] }[channels];
  const scale = RANGES[range][1];
  const text = (pixel, place) => {
    const value = scale(data[pixel * 4 + place], Math.min(place, 2));
    return integers ? String(Math.round(value)) : String(Math.round(value * 1e6) / 1e6);
  };
  const pixel = (i) => places.map((place) => text(i, place));
  const list = (count, make) => `[${Array.from({ length: count }, (_, i) => make(i)).join(",")}]`;
  const plane = (make) => list(height, (row) => list(width, (column) => make(row * width + column)));
  switch (order) {
    case "HW":
      return plane((i) => text(i, places[0]));
    case "CHW":
      return `[${places.map((place) => plane((i) => text(i, place))).join(",")}]`;
    case "HWC flat":
      return list(height * width, (i) => pixel(i).join(","));
    default:
      return plane((i) => `[${pixel(i).join(",")}]`);
  }
}

// What was drawn, as digits of the MNIST collection lie: in a box of 20 by 20 of 28, its centre of mass in the middle.
export function centredDrawing(canvas, width, height) {
  const source = canvas.getContext("2d", { willReadFrequently: true });
  const { data } = source.getImageData(0, 0, canvas.width, canvas.height);
  let [left, top, right, bottom, mass, sumX, sumY] = [canvas.width, canvas.height, -1, -1, 0, 0, 0];
  for (let y = 0; y < canvas.height; y += 1) {
    for (let x = 0; x < canvas.width; x += 1) {
      const ink = data[(y * canvas.width + x) * 4];
      if (ink < 16) continue;
      [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
      mass += ink;
      sumX += ink * x;
      sumY += ink * y;
    }
  }
  if (!mass) throw new InputError("Nothing is drawn yet.");
  const made = document.createElement("canvas");
  made.width = width;
  made.height = height;
  const context = made.getContext("2d", { willReadFrequently: true });
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  const scale = (Math.min(width, height) * 20) / 28 / Math.max(right - left + 1, bottom - top + 1);
  // As far as the ink stays on the paper: that of a 7 is far from its middle.
  const shift = (size, mean, first, last) => Math.min(Math.max(size / 2 - mean * scale, -first * scale), size - (last + 1) * scale);
  context.setTransform(scale, 0, 0, scale, shift(width, sumX / mass, left, right), shift(height, sumY / mass, top, bottom));
  context.drawImage(canvas, 0, 0);
  return made;
}
