// What h5wasm (HDF5 in browsers: myHDF5, h5web) reads of a file, as JSON like foreign_readers.py.
// node read_h5wasm.mjs FOLDER_OF_NODE_MODULES FILE
import { createHash } from "node:crypto";
import { pathToFileURL } from "node:url";

const [modules, path] = process.argv.slice(2);
const { default: h5wasm } = await import(pathToFileURL(`${modules}/h5wasm/dist/node/hdf5_hl.js`));
await h5wasm.ready;
const file = new h5wasm.File(path, "r");
const found = {};

function digest(values, shape, isCharacters) {
  let list = Array.isArray(values) || ArrayBuffer.isView(values) ? Array.from(values) : [values];
  let outer = shape;
  let raw;
  if (list.length ? typeof list[0] === "string" : isCharacters) {
    if (isCharacters && shape.length) {
      const length = shape[shape.length - 1];
      outer = shape.slice(0, -1);
      const texts = [];
      for (let at = 0; at < list.length; at += length) texts.push(list.slice(at, at + length).join(""));
      list = texts;
    }
    raw = Buffer.from(list.map((text) => text.replace(/\0+$/, "")).join("\0"));
  } else if (values instanceof Float64Array || (typeof values === "number" && !Number.isInteger(values))) {
    raw = Buffer.from(Float64Array.from(list).buffer);
  } else {
    raw = Buffer.from(BigInt64Array.from(list.map(BigInt)).buffer);
  }
  return [[...outer], createHash("sha256").update(raw).digest("hex")];
}

function walk(group, at) {
  for (const name of group.keys()) {
    if (name.startsWith("string")) continue;
    const item = group.get(name);
    const place = `${at}/${name}`;
    if (item?.type === "Group") walk(item, place);
    else if (item?.type === "Dataset") {
      const text = item.metadata.type === 3;
      const float = item.metadata.type === 1;
      const values = float && typeof item.value === "number" ? Float64Array.of(item.value) : item.value;
      found[place] = digest(values, item.shape, text);
    } else found[place] = `${item?.type ?? "nothing"}`;
  }
}

walk(file, "");
console.log(JSON.stringify(found));
