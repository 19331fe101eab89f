/** Where services stand on the map: in layers from callers to what they call, the same for the same calls. */

const SWEEPS = 12;
const ALIGNMENTS = 24;
const LABEL_HEIGHT = 15;
/** How much higher the map may be than its fullest layer. */
const ROOM = 1.1;
const LONGEST_LAYER = 14;

/** The size of a service on the map, and the space around it. */
export const BOX = { width: 192, height: 52, gapX: 118, gapY: 18 };

/**
 * Place services so that calls go from left to right and cross little.
 *
 * @param {string[]} names of the services
 * @param {{from: string, to: string}[]} edges
 * @returns {{width: number, height: number, places: Map<string, {x: number, y: number}>,
 *   paths: Map<object, {x: number, y: number}[]>}}
 *   the left upper corners of the services, and the points that each edge goes through
 */
export function placeServices(names, edges) {
  const sorted = [...names].sort();
  const calls = edges.filter(({ from, to }) => from !== to);
  const connected = new Set(calls.flatMap(({ from, to }) => [from, to]));
  const forward = withoutCycles(sorted.filter((name) => connected.has(name)), calls);
  const layerOf = findLayers(sorted.filter((name) => connected.has(name)), forward);
  const { layers, chains } = makeLayers(layerOf, forward);
  orderLayers(layers, chains);
  const placed = placeLayers(layers);
  placeOthers(sorted.filter((name) => !connected.has(name)), placed);
  const paths = new Map();
  for (const { edge, isReversed, nodes } of chains) {
    const points = nodes.slice(1, -1).map((node) => ({ x: node.x + BOX.width / 2, y: node.y + BOX.height / 2 }));
    paths.set(edge, isReversed ? points.reverse() : points);
  }
  return { ...placed, paths };
}

/** Return the edges with those reversed that would close a cycle. */
function withoutCycles(names, edges) {
  const outgoing = new Map(names.map((name) => [name, []]));
  for (const edge of [...edges].sort(byEnds)) outgoing.get(edge.from).push(edge);
  const incoming = new Set(edges.map(({ to }) => to));
  const states = new Map();
  const found = [];
  const visit = (name) => {
    states.set(name, "open");
    for (const edge of outgoing.get(name)) {
      const isReversed = states.get(edge.to) === "open";
      found.push({ edge, isReversed, from: isReversed ? edge.to : edge.from, to: isReversed ? edge.from : edge.to });
      if (!states.has(edge.to)) visit(edge.to);
    }
    states.set(name, "done");
  };
  // Services that nobody calls come first: their calls all go forward.
  for (const name of [...names.filter((one) => !incoming.has(one)), ...names]) if (!states.has(name)) visit(name);
  return found;
}

function byEnds(a, b) {
  const [first, second] = [JSON.stringify([a.from, a.to]), JSON.stringify([b.from, b.to])];
  return first < second ? -1 : Number(first > second);
}

/** Return the layer of each service: one past the furthest of its callers, none overfull. */
function findLayers(names, edges) {
  const callers = new Map(names.map((name) => [name, []]));
  for (const { from, to } of edges) callers.get(to).push(from);
  const layers = new Map();
  const sizes = [];
  const layerOf = (name) => {
    if (layers.has(name)) return layers.get(name);
    let layer = Math.max(-1, ...callers.get(name).map(layerOf)) + 1;
    while ((sizes[layer] ?? 0) >= LONGEST_LAYER) layer += 1;
    sizes[layer] = (sizes[layer] ?? 0) + 1;
    layers.set(name, layer);
    return layer;
  };
  names.forEach(layerOf);
  return layers;
}

/** Return the nodes by layer, with a point in each layer that an edge passes through. */
function makeLayers(layerOf, edges) {
  const layers = [];
  const nodes = new Map();
  const add = (layer, node) => {
    while (layers.length <= layer) layers.push([]);
    layers[layer].push(node);
    return node;
  };
  for (const [name, layer] of layerOf) nodes.set(name, add(layer, { name, neighbours: [[], []] }));
  const chains = edges.map(({ edge, isReversed, from, to }) => {
    const chain = [nodes.get(from)];
    for (let layer = layerOf.get(from) + 1; layer < layerOf.get(to); layer++) {
      chain.push(add(layer, { name: null, neighbours: [[], []] }));
    }
    chain.push(nodes.get(to));
    for (let at = 1; at < chain.length; at++) {
      chain[at].neighbours[0].push(chain[at - 1]);
      chain[at - 1].neighbours[1].push(chain[at]);
    }
    return { edge, isReversed, nodes: chain };
  });
  return { layers, chains };
}

/** Order each layer by where its neighbours stand, forwards and backwards in turn; keep the best order. */
function orderLayers(layers) {
  const number = () => layers.forEach((layer) => layer.forEach((node, index) => (node.place = index)));
  number();
  let best = { crossings: countCrossings(layers), orders: layers.map((layer) => [...layer]) };
  for (let sweep = 0; sweep < SWEEPS && best.crossings > 0; sweep++) {
    const side = sweep % 2;
    const order = side ? [...layers].reverse() : layers;
    for (const layer of order) {
      for (const node of layer) node.weight = meanPlace(node.neighbours[side]) ?? node.place;
      layer.sort((a, b) => a.weight - b.weight || a.place - b.place);
      layer.forEach((node, index) => (node.place = index));
    }
    const crossings = countCrossings(layers);
    if (crossings < best.crossings) best = { crossings, orders: layers.map((layer) => [...layer]) };
  }
  best.orders.forEach((order, index) => (layers[index] = order));
  number();
}

function meanPlace(nodes) {
  return nodes.length ? nodes.reduce((sum, { place }) => sum + place, 0) / nodes.length : null;
}

function countCrossings(layers) {
  let crossings = 0;
  for (const layer of layers) {
    const pairs = layer.flatMap((node) => node.neighbours[1].map((next) => [node.place, next.place]));
    for (let a = 0; a < pairs.length; a++) {
      for (let b = a + 1; b < pairs.length; b++) {
        if ((pairs[a][0] - pairs[b][0]) * (pairs[a][1] - pairs[b][1]) < 0) crossings += 1;
      }
    }
  }
  return crossings;
}

/** Give each node its coordinates; a node stands at the height of its neighbours where there is room. */
function placeLayers(layers) {
  const heightOf = (node) => (node.name === null ? BOX.gapY : BOX.height);
  layers.forEach((layer, index) => {
    let y = 0;
    for (const node of layer) {
      node.x = index * (BOX.width + BOX.gapX);
      node.top = y;
      y += heightOf(node) + BOX.gapY;
    }
  });
  const height = Math.max(...layers.map((layer) => layer.at(-1).top + heightOf(layer.at(-1)))) * ROOM;
  for (let round = 0; round < ALIGNMENTS; round++) {
    for (const layer of round % 2 ? [...layers].reverse() : layers) alignLayer(layer, heightOf, height);
  }
  const nodes = layers.flat();
  const least = nodes.reduce((top, node) => Math.min(top, node.top), Infinity);
  const places = new Map();
  const size = { width: 0, height: 0 };
  for (const node of nodes) {
    node.top -= least;
    node.y = node.name === null ? node.top + (heightOf(node) - BOX.height) / 2 : node.top;
    if (node.name !== null) places.set(node.name, { x: node.x, y: node.y });
    size.width = Math.max(size.width, node.x + BOX.width);
    size.height = Math.max(size.height, node.top + heightOf(node));
  }
  return { places, ...size };
}

/** Move the nodes of a layer towards their neighbours, in order, without overlaps, between 0 and `height`. */
function alignLayer(layer, heightOf, height) {
  const middle = (node) => node.top + heightOf(node) / 2;
  const sizes = layer.map((node) => heightOf(node) + BOX.gapY);
  const wanted = layer.map((node) => {
    const near = node.neighbours.flat();
    return near.reduce((sum, other) => sum + middle(other), 0) / near.length - heightOf(node) / 2;
  });
  const downwards = pushUp(pushDown(wanted, sizes), sizes, height);
  const upwards = pushDown(pushUp(wanted, sizes, height), sizes);
  // Between two orders without overlaps lies one without overlaps.
  layer.forEach((node, index) => (node.top = (downwards[index] + upwards[index]) / 2));
}

function pushDown(tops, sizes) {
  let least = 0;
  return tops.map((top, index) => {
    const moved = Math.max(top, least);
    least = moved + sizes[index];
    return moved;
  });
}

function pushUp(tops, sizes, height) {
  let most = height + BOX.gapY;
  const moved = [...tops];
  for (let index = tops.length - 1; index >= 0; index--) {
    moved[index] = Math.min(tops[index], most - sizes[index]);
    most = moved[index];
  }
  return moved;
}

/** Place the services that call nobody and are called by nobody below the others, in rows. */
function placeOthers(names, placed) {
  const columns = Math.max(Math.round((placed.width + BOX.gapX) / (BOX.width + BOX.gapX)), Math.ceil(Math.sqrt(names.length)), 1);
  const top = placed.height ? placed.height + 2 * BOX.gapY : 0;
  names.forEach((name, index) => {
    const x = (index % columns) * (BOX.width + BOX.gapX);
    const y = top + Math.floor(index / columns) * (BOX.height + BOX.gapY);
    placed.places.set(name, { x, y });
    placed.width = Math.max(placed.width, x + BOX.width);
    placed.height = Math.max(placed.height, y + BOX.height);
  });
}

/**
 * Return where labels can stand on their curves without covering a service or each other.
 *
 * @param {{points: {x: number, y: number}[], width: number}[]} labels with the points of their curves
 * @param {Iterable<{x: number, y: number}>} places of the services
 * @returns {({x: number, y: number}|null)[]} the middle of each label; null where there is no room
 */
export function placeLabels(labels, places) {
  const taken = [...places].map(({ x, y }) => ({ left: x - 2, right: x + BOX.width + 2, top: y - 2, bottom: y + BOX.height + 2 }));
  return labels.map(({ points, width }) => {
    const candidates = pointsOnCurve(points, 16);
    const half = candidates.length / 2;
    candidates.forEach((one, index) => (one.distance = Math.abs(index + 0.5 - half)));
    candidates.sort((a, b) => a.distance - b.distance);
    // On its curve, or else a little above or below it.
    for (const shift of [0, -LABEL_HEIGHT, LABEL_HEIGHT]) {
      for (const { x, y: middle } of candidates) {
        const y = middle + shift;
        const box = { left: x - width / 2, right: x + width / 2, top: y - LABEL_HEIGHT / 2, bottom: y + LABEL_HEIGHT / 2 };
        if (taken.some((other) => isOverlapping(box, other))) continue;
        taken.push(box);
        return { x, y };
      }
    }
    return null;
  });
}

function isOverlapping(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/** Return points of the curve that goes through the points, so many for each of its parts. */
function pointsOnCurve(points, count) {
  const found = [];
  for (let at = 1; at < points.length; at++) {
    const [from, to] = [points[at - 1], points[at]];
    for (let part = 0; part < count; part++) {
      const t = (part + 0.5) / count;
      // A cubic curve whose two control points stand half way, at the heights of the ends.
      const rise = t * t * (3 - 2 * t);
      const run = 1.5 * t * (1 - t) + t ** 3;
      found.push({ x: from.x + (to.x - from.x) * run, y: from.y + (to.y - from.y) * rise });
    }
  }
  return found;
}
