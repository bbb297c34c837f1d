// The clock that all motions of a page share: they are played in step, by time, whatever their frame rates are.

const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2, 4];

class Clock {
  /** `motions`: what is played; the longest one gives the frames that are counted. */
  constructor(motions) {
    this.lead = motions.reduce((best, motion) => (motion.seconds > best.seconds ? motion : best));
    this.seconds = this.lead.seconds;
    this.time = 0;
    this.speed = 1;
    this.loop = true;
    this.playing = false;
  }

  /** The frame shown. */
  get frame() {
    return Math.round(this.lead.frameAt(this.time));
  }

  /** Show frame `frame`, and stop there. */
  seek(frame) {
    this.playing = false;
    this.time = clamp(Math.round(frame), 0, this.lead.frames - 1) / this.lead.fps;
  }

  /** Play, from the start if the end was reached. */
  play() {
    if (!this.seconds) return;
    if (this.time >= this.seconds) this.time = 0;
    this.playing = true;
  }

  /** `passed` seconds went by. */
  tick(passed) {
    if (!this.playing) return;
    this.time += passed * this.speed;
    // The last frame lasts as long as the others.
    const end = this.seconds + 1 / this.lead.fps;
    if (this.loop) this.time %= end;
    else if (this.time >= this.seconds) {
      this.time = this.seconds;
      this.playing = false;
    }
  }
}
