// Unpacking what mclip/view/embed.py packed: deflated columns, delta-coded, bytes sorted by significance.

/** The bytes of a block: base64 of a zlib stream. */
async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Reads columns of a block one after another. */
class Columns {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  /** The next `length` values as `kind`, an array of integers. */
  next(Kind, length) {
    const values = new Kind(length);
    let value = 0;
    for (let i = 0; i < length; i++) {
      let delta = 0;
      for (let byte = 0; byte < Kind.BYTES_PER_ELEMENT; byte++) {
        delta |= this.bytes[this.at + byte * length + i] << (8 * byte);
      }
      value = (value + delta) | 0;
      values[i] = value; // wraps around as the array's kind does
    }
    this.at += length * Kind.BYTES_PER_ELEMENT;
    return values;
  }

  /** `count` columns side by side: row after row. */
  table(Kind, length, count) {
    const rows = new Kind(length * count);
    for (let column = 0; column < count; column++) {
      const values = this.next(Kind, length);
      for (let i = 0; i < length; i++) rows[i * count + column] = values[i];
    }
    return rows;
  }
}

/** The body: rest positions and normals, triangles, influences, rest joints and their parents. */
async function readBody(record) {
  const columns = new Columns(await inflate(record.data));
  const whole = columns.table(Uint16Array, record.vertices, 3);
  const positions = Float32Array.from(whole, (value, i) => record.low[i % 3] + value * record.step[i % 3]);
  const faces = columns.table(Uint16Array, record.faces, 3);
  return {
    positions,
    normals: vertexNormals(positions, faces),
    faces,
    joints: columns.table(Uint8Array, record.vertices, 4),
    weights: columns.table(Uint8Array, record.vertices, 4),
    rest: record.joints,
    parents: record.parents,
  };
}

function vertexNormals(positions, faces) {
  const normals = new Float32Array(positions.length);
  const at = (v) => [positions[3 * v], positions[3 * v + 1], positions[3 * v + 2]];
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [at(faces[f]), at(faces[f + 1]), at(faces[f + 2])];
    const normal = cross(subtract(b, a), subtract(c, a)); // as long as the face is large
    for (let corner = 0; corner < 3; corner++) {
      for (let axis = 0; axis < 3; axis++) normals[3 * faces[f + corner] + axis] += normal[axis];
    }
  }
  return normals;
}

/** The frames of a motion: quaternions (T, 24, wxyz), and the root's translation (T, 3) relative to the first frame. */
async function readFrames(record) {
  const columns = new Columns(await inflate(record.data));
  const turns = columns.table(Int16Array, record.frames, 72);
  const travelled = Float32Array.from(columns.table(Int32Array, record.frames, 3), (value) => value * record.unit);
  const quaternions = new Float32Array(record.frames * 96);
  for (let i = 0; i < record.frames * 24; i++) {
    const v = [0, 1, 2].map((axis) => turns[3 * i + axis] * (Math.PI / 32767));
    const angle = Math.hypot(...v);
    const sine = angle > 1e-9 ? Math.sin(angle / 2) / angle : 0.5;
    quaternions.set([Math.cos(angle / 2), v[0] * sine, v[1] * sine, v[2] * sine], 4 * i);
  }
  return { quaternions, travelled };
}
