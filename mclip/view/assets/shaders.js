// The programs of the graphics card.

// Skinning as mclip/body/skinning.py has it: each joint is three rows of four numbers that take rest positions to the
// world, and a vertex moves with the weighted mean of its four.
const SKINNED = `#version 300 es
precision highp float;
layout(location = 0) in vec3 a_position;
layout(location = 1) in vec3 a_normal;
layout(location = 2) in uvec4 a_joints;
layout(location = 3) in vec4 a_weights;
uniform vec4 u_bones[72];
uniform mat4 u_camera;
out vec3 v_place;
out vec3 v_normal;
void main() {
  vec4 weights = a_weights / dot(a_weights, vec4(1.0));
  vec4 x = vec4(0.0), y = vec4(0.0), z = vec4(0.0);
  for (int k = 0; k < 4; k++) {
    int bone = 3 * int(a_joints[k]);
    x += weights[k] * u_bones[bone];
    y += weights[k] * u_bones[bone + 1];
    z += weights[k] * u_bones[bone + 2];
  }
  vec4 rest = vec4(a_position, 1.0);
  v_place = vec3(dot(x, rest), dot(y, rest), dot(z, rest));
  v_normal = vec3(dot(x.xyz, a_normal), dot(y.xyz, a_normal), dot(z.xyz, a_normal));
  gl_Position = u_camera * vec4(v_place, 1.0);
}`;

const DEPTH_ONLY = `#version 300 es
precision highp float;
void main() {}`;

// How much of the lamp reaches a place: the mean of 16 tests on a spiral, each of four neighbours.
const LAMP = `
uniform highp sampler2DShadow u_shadows;
uniform mat4 u_lamp;
uniform float u_softness;
float lit(vec3 place) {
  vec3 at = (u_lamp * vec4(place, 1.0)).xyz * 0.5 + 0.5;
  float sum = 0.0;
  for (int i = 0; i < 16; i++) {
    float angle = float(i) * 2.399963;
    vec2 shift = u_softness * sqrt((float(i) + 0.5) / 16.0) * vec2(cos(angle), sin(angle));
    sum += texture(u_shadows, vec3(at.xy + shift, min(at.z, 1.0)));
  }
  // Nothing outside the lamp's picture throws a shadow.
  vec2 edge = smoothstep(vec2(0.5), vec2(0.47), abs(at.xy - 0.5));
  return mix(1.0, sum / 16.0, edge.x * edge.y);
}`;

const BODY = `#version 300 es
precision highp float;
in vec3 v_place;
in vec3 v_normal;
uniform vec3 u_eye;
uniform vec3 u_light;
uniform vec3 u_colour;
uniform vec3 u_sky;
uniform vec3 u_floor;
uniform float u_shade;
uniform float u_opacity;
out vec4 colour;
${LAMP}
void main() {
  vec3 normal = normalize(v_normal);
  vec3 view = normalize(u_eye - v_place);
  float facing = dot(normal, u_light);
  // Light wraps a little around the edge, as it does on skin and cloth.
  float key = smoothstep(-0.12, 1.0, facing) * mix(1.0, lit(v_place + normal * 0.015), u_shade);
  vec3 ambient = mix(u_floor, u_sky, normal.z * 0.5 + 0.5);
  float fill = 0.14 * max(dot(normal, view), 0.0);
  float rim = pow(1.0 - max(dot(normal, view), 0.0), 3.0) * (0.35 + 0.65 * max(normal.z, 0.0));
  float gloss = pow(max(dot(normal, normalize(view + u_light)), 0.0), 28.0) * key;
  // Near the floor less light comes from below and from the side.
  float open = mix(0.7, 1.0, smoothstep(0.0, 0.6, v_place.z));
  vec3 light = u_colour * (ambient * open + fill + key * vec3(1.16, 1.09, 1.0)) + u_sky * rim * 0.3 + gloss * 0.05;
  colour = vec4(pow(light / (1.0 + 0.18 * light), vec3(1.0 / 2.2)), 1.0) * u_opacity;
}`;

const GROUND_VERTEX = `#version 300 es
precision highp float;
layout(location = 0) in vec2 a_corner;
uniform mat4 u_camera;
uniform vec2 u_focus;
uniform float u_reach;
out vec3 v_place;
void main() {
  v_place = vec3(u_focus + a_corner * u_reach, 0.0);
  gl_Position = u_camera * vec4(v_place, 1.0);
}`;

const GROUND = `#version 300 es
precision highp float;
in vec3 v_place;
uniform vec2 u_focus;
uniform float u_reach;
uniform vec3 u_colour;
uniform vec3 u_line;
uniform float u_ground;
uniform float u_shade;
out vec4 colour;
${LAMP}
// Lines one pixel wide, that grow faint before they are closer together than can be drawn.
float lines(float distance, float width) {
  vec2 at = v_place.xy / distance;
  vec2 pixel = fwidth(at);
  vec2 line = 1.0 - smoothstep(vec2(0.0), pixel * width, abs(fract(at - 0.5) - 0.5));
  vec2 clear = 1.0 - smoothstep(vec2(0.12), vec2(0.4), pixel);
  return max(line.x * clear.x, line.y * clear.y);
}
void main() {
  float away = length(v_place.xy - u_focus) / u_reach;
  float fade = 1.0 - smoothstep(0.15, 1.0, away);
  float line = max(lines(1.0, 1.4) * 0.75, lines(0.25, 1.2) * 0.28);
  vec3 plain = mix(u_colour, u_line, line * u_ground);
  float shadow = (1.0 - lit(v_place)) * u_shade;
  float cover = mix(shadow, 1.0, u_ground);
  vec3 shown = mix(plain, plain * 0.42, shadow) * u_ground;
  colour = vec4(shown, cover) * fade;
}`;

// A ribbon on the floor as wide as a few pixels: a_side points to its edge, a_when is the time.
const PATH_VERTEX = `#version 300 es
precision highp float;
layout(location = 0) in vec2 a_place;
layout(location = 1) in vec2 a_side;
layout(location = 2) in float a_when;
uniform mat4 u_camera;
uniform vec2 u_slot;
uniform float u_width;
out float v_when;
out float v_side;
void main() {
  v_when = a_when;
  v_side = gl_VertexID % 2 == 0 ? -1.0 : 1.0;
  gl_Position = u_camera * vec4(a_place + u_slot + a_side * u_width, 0.0, 1.0);
}`;

const PATH = `#version 300 es
precision highp float;
in float v_when;
in float v_side;
uniform vec3 u_colour;
uniform float u_now;
out vec4 colour;
void main() {
  float edge = 1.0 - smoothstep(0.5, 1.0, abs(v_side));
  colour = vec4(u_colour, 1.0) * edge * (v_when <= u_now ? 0.95 : 0.35);
}`;

// Rods with round ends between two places, one instance each.
const ROD_VERTEX = `#version 300 es
precision highp float;
layout(location = 0) in vec3 a_shape; // on the unit sphere; the half with z > 0 goes to the far end
layout(location = 1) in vec3 a_from;
layout(location = 2) in vec3 a_to;
layout(location = 3) in vec3 a_colour;
layout(location = 4) in vec2 a_radius; // at both ends
uniform mat4 u_camera;
out vec3 v_normal;
out vec3 v_colour;
void main() {
  vec3 along = a_to - a_from;
  float length_ = length(along);
  vec3 z = length_ > 1e-6 ? along / length_ : vec3(0.0, 0.0, 1.0);
  vec3 x = normalize(cross(abs(z.z) < 0.9 ? vec3(0.0, 0.0, 1.0) : vec3(1.0, 0.0, 0.0), z));
  v_normal = mat3(x, cross(z, x), z) * a_shape;
  v_colour = a_colour;
  bool far_ = a_shape.z > 0.0;
  vec3 place = (far_ ? a_to : a_from) + v_normal * (far_ ? a_radius.y : a_radius.x);
  gl_Position = u_camera * vec4(place, 1.0);
}`;

const ROD = `#version 300 es
precision highp float;
in vec3 v_normal;
in vec3 v_colour;
uniform vec3 u_light;
out vec4 colour;
void main() {
  float light = 0.62 + 0.38 * dot(normalize(v_normal), u_light);
  colour = vec4(pow(v_colour * light, vec3(1.0 / 2.2)), 1.0);
}`;
