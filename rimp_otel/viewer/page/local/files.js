/**
 * Lines of text of files that a person has dropped: plain, gzip or zstd, of many members or frames.
 * @module
 */
import { Decompress } from "../vendor/fzstd.js";

const PIECE = 1 << 18;
const MAX_LINE = 1 << 28;
const TURN_MILLIS = 12;
const ZSTD_MAGIC = 0xfd2fb528;
const GZIP_MAGIC = [0x1f, 0x8b, 0x08];

/**
 * Let the page draw and answer, if this turn has taken long enough.
 * @returns {function(): Promise<void>} to be awaited between pieces of work
 */
export function makePauses() {
  let started = performance.now();
  return async () => {
    if (performance.now() - started < TURN_MILLIS) return;
    await new Promise((resolve) => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        channel.port1.close();
        resolve();
      };
      channel.port2.postMessage(null);
    });
    started = performance.now();
  };
}

/**
 * Read the lines of a file. What cannot be decompressed is left out.
 * @param {Blob} file
 * @param {function(string): void} onLine called with each line that is not blank
 * @param {function(number): void} onProgress called with the number of bytes of the file that are read
 * @returns {Promise<number>} how many damaged places of the compressed file were left out
 */
export async function readLines(file, onLine, onProgress) {
  const pause = makePauses();
  const report = { damaged: 0, onProgress };
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of decompressed(file, report)) {
    // An empty piece stands for a damaged place: the line that it tore ends there.
    rest += bytes.length ? decoder.decode(bytes, { stream: true }) : decoder.decode() + "\n";
    let start = 0;
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n", start)) {
      emitLine(rest.slice(start, end), onLine);
      start = end + 1;
      await pause();
    }
    rest = rest.slice(start);
    if (rest.length > MAX_LINE) {
      report.damaged += 1;
      rest = "";
    }
    await pause();
  }
  emitLine(rest + decoder.decode(), onLine);
  return report.damaged;
}

function emitLine(line, onLine) {
  if (line.trim()) onLine(line);
}

async function* decompressed(file, report) {
  const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  if (isGzip(head, 0)) yield* inflated(await bytesOf(file), report);
  else if (isZstd(head, 0)) yield* unpacked(await bytesOf(file), report);
  else yield* plain(file, report);
}

async function bytesOf(file) {
  return new Uint8Array(await file.arrayBuffer());
}

async function* plain(file, report) {
  for (let at = 0; at < file.size; at += PIECE) {
    yield new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer());
    report.onProgress(Math.min(at + PIECE, file.size));
  }
}

// Zstandard.

function isZstd(bytes, at) {
  if (at + 4 > bytes.length) return false;
  const magic = new DataView(bytes.buffer, bytes.byteOffset + at, 4).getUint32(0, true);
  return magic === ZSTD_MAGIC || (magic & 0xfffffff0) >>> 0 === 0x184d2a50;
}

async function* unpacked(bytes, report) {
  let at = 0;
  while (at < bytes.length) {
    const end = frameEnd(bytes, at);
    // A frame that is cut off still has whole blocks before the cut.
    const stop = end ?? nextFrame(bytes, at + 1);
    let isDamaged = end === null;
    const pieces = [];
    if (bytes[at] === 0x28) {
      const stream = new Decompress((piece) => pieces.push(piece));
      try {
        for (let from = at; from < stop; from += PIECE) {
          const to = Math.min(from + PIECE, stop);
          stream.push(bytes.subarray(from, to), to === stop && end !== null);
          yield* pieces.splice(0).filter((piece) => piece.length);
        }
      } catch {
        isDamaged = true;
      }
    }
    yield* pieces.filter((piece) => piece.length);
    if (isDamaged) {
      report.damaged += 1;
      yield new Uint8Array(0);
    }
    at = stop;
    report.onProgress(at);
  }
}

/** Return where the frame ends that starts at `at`, or null if it is cut off or none. */
function frameEnd(bytes, at) {
  if (!isZstd(bytes, at) || at + 8 > bytes.length) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[at] !== 0x28) {
    const end = at + 8 + view.getUint32(at + 4, true);
    return end <= bytes.length ? end : null;
  }
  const descriptor = bytes[at + 4];
  const isSingle = (descriptor >> 5) & 1;
  const sizeBytes = [isSingle, 2, 4, 8][descriptor >> 6];
  let end = at + 5 + (1 - isSingle) + [0, 1, 2, 4][descriptor & 3] + sizeBytes;
  for (let isLast = false; !isLast; ) {
    if (end + 3 > bytes.length) return null;
    const block = bytes[end] | (bytes[end + 1] << 8) | (bytes[end + 2] << 16);
    isLast = (block & 1) === 1;
    const type = (block >> 1) & 3;
    if (type === 3) return null;
    end += 3 + (type === 1 ? 1 : block >> 3);
  }
  end += descriptor & 4 ? 4 : 0;
  return end <= bytes.length ? end : null;
}

function nextFrame(bytes, from) {
  for (let at = bytes.indexOf(0x28, from); at >= 0; at = bytes.indexOf(0x28, at + 1)) {
    if (isZstd(bytes, at)) return at;
  }
  return bytes.length;
}

// Gzip.

function isGzip(bytes, at) {
  return GZIP_MAGIC.every((byte, index) => bytes[at + index] === byte);
}

/**
 * Decompress each member. Browsers refuse what follows the first member, and do not say where it ends:
 * the places that look like the start of a member are tried, and its checksum says which one is.
 */
async function* inflated(bytes, report) {
  const starts = [...memberStarts(bytes), bytes.length];
  for (let index = 0; index + 1 < starts.length; ) {
    let taken = 1;
    let member = await inflate(bytes.subarray(starts[index], starts[index + 1]));
    if (!member.isWhole && index + 2 < starts.length) {
      const longer = await inflate(bytes.subarray(starts[index], starts[index + 2]));
      if (longer.isWhole) [member, taken] = [longer, 2];
    }
    yield* member.pieces;
    if (!member.isWhole) {
      report.damaged += 1;
      yield new Uint8Array(0);
    }
    index += taken;
    report.onProgress(starts[index]);
  }
}

function* memberStarts(bytes) {
  for (let at = bytes.indexOf(0x1f); at >= 0; at = bytes.indexOf(0x1f, at + 1)) {
    const isHeader = isGzip(bytes, at) && bytes[at + 3] < 32 && [0, 2, 4].includes(bytes[at + 8]);
    if (isHeader) yield at;
  }
}

async function inflate(member) {
  const pieces = [];
  try {
    const stream = new Blob([member]).stream().pipeThrough(new DecompressionStream("gzip"));
    const reader = stream.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { pieces, isWhole: true };
      if (value.length) pieces.push(value);
    }
  } catch {
    return { pieces, isWhole: false };
  }
}
