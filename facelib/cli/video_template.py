"""Template, script and security policy of the page of a video, see `video_page`."""

import base64
import hashlib

# Clicks on a bar or a time bring the player there; while it plays, a line on the bars of its clip shows where it is.
SCRIPT = """
const video = document.querySelector('video'), said = document.querySelector('output');
const clips = [...document.querySelectorAll('#clips option')];
let playing = -1;
function load(clip) {
  playing = clip;
  const source = clips[clip].dataset.source;
  said.textContent = source ? '' : clips[clip].text + ': the page does not know the file of this clip.';
  if (source) video.src = source; else video.removeAttribute('src');
  for (const bar of document.querySelectorAll('.bar')) bar.classList.toggle('on', +bar.dataset.clip === clip);
}
function show(clip, time) {
  if (clip !== playing) load(clip);
  document.querySelector('#clips').value = clip;
  if (video.hasAttribute('src')) video.currentTime = time;
}
document.addEventListener('click', event => {
  const button = event.target.closest('button[data-time]'), bar = event.target.closest('.bar');
  if (button) show(+button.dataset.clip, +button.dataset.time);
  else if (bar) {
    const box = bar.getBoundingClientRect();
    show(+bar.dataset.clip, bar.dataset.end * Math.max(0, event.clientX - box.left) / box.width);
  }
});
document.querySelector('#clips').addEventListener('change', event => load(+event.target.value));
video.addEventListener('error', () => {
  said.textContent = clips[playing].text + ': this browser cannot play the clip, or it was moved; '
    + 'the times are right in any other player.';
});
video.addEventListener('timeupdate', () => {
  const now = 100 * video.currentTime / clips[playing].dataset.end;
  document.body.style.setProperty('--now', Math.min(now, 100) + '%');
});
if (clips.length) load(0);
"""
# Nothing may be loaded or run but the style, the script and the pictures that are in the file, and the clips.
# "file:" is for a page that is opened from a disk, where 'self' means nothing.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src file: 'self'; base-uri 'none'; "
    f"form-action 'none'; script-src 'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
)
TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Who is seen when</title>
<style>
:root { color-scheme: light dark;
  --text: #222; --faint: #666; --page: #fff; --bar: #e4e7eb; --seen: #1b6ec2; --warn: #9a4d00 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --faint: #a5a5a5; --page: #181a1b; --bar: #35393d; --seen: #6db3f2; --warn: #ffb25c }
}
body { font: 15px/1.4 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; color: var(--text);
  background: var(--page); overflow-wrap: anywhere }
h1 { font-size: 1.4rem; margin: .2rem 0 } h2 { font-size: 1.1rem; margin: 0 }
small { color: var(--faint); font-weight: normal }
.player { position: sticky; top: 0; z-index: 1; background: var(--page); padding: .4rem 0 }
video { display: block; width: 100%; height: min(40vh, 28rem); background: #000 }
nav { columns: 12rem; margin: 1rem 0 } nav div { break-inside: avoid } a { color: var(--seen) }
.player select { max-width: 100% } output { display: block; color: var(--faint); min-height: 1.4em }
section { display: grid; grid-template-columns: 112px 1fr; gap: .3rem 1rem; margin: 1.5rem 0; scroll-margin-top: 45vh;
  content-visibility: auto; contain-intrinsic-size: auto 9rem }
.face { padding: 0; border: 0; background: none; align-self: start; line-height: 0 }
img { width: 100%; border-radius: 6px } button { font: inherit; cursor: pointer } .note { color: var(--warn) }
.bar { position: relative; height: 1.4rem; margin-top: .3rem; background: var(--bar); border-radius: 3px;
  overflow: hidden; cursor: pointer; print-color-adjust: exact; -webkit-print-color-adjust: exact }
.bar i { position: absolute; top: 0; bottom: 0; min-width: 3px; background: var(--seen) }
.bar.on::after { content: ''; position: absolute; top: 0; bottom: 0; left: var(--now, 0);
  border-left: 2px solid var(--text) }
.times button { border: 1px solid var(--bar); border-radius: 3px; background: none; color: inherit; padding: 0 .4rem;
  margin: 2px 0 }
:focus-visible { outline: 3px solid var(--seen); outline-offset: 1px }
@media (max-width: 36rem) { section { grid-template-columns: 64px 1fr } video { height: 30vh } }
@media print {
  .player, nav { display: none } section { break-inside: avoid; content-visibility: visible }
  details::details-content { content-visibility: visible; block-size: auto }
}
</style>
</head>
<body>
<h1>Who is seen when</h1>
<p>{{ summary }}{% if people %} A click on a bar, a time or a face shows that moment.{% endif %}</p>
{%- for remark in remarks %}
<p class="note">{{ remark }}</p>
{%- endfor %}
<div class="player">
<video controls preload="metadata" aria-label="The clip"></video>
<label>Clip <select id="clips">
{%- for clip in clips %}
<option value="{{ loop.index0 }}" data-source="{{ clip.source }}" data-end="{{ clip.end }}">{{ clip.title }}</option>
{%- endfor %}
</select></label>
<output></output>
</div>
<nav aria-label="People">
{%- for person in people %}
<div><a href="#p{{ loop.index0 }}">{{ person.name }}</a> <small>{{ person.total }}</small></div>
{%- endfor %}
</nav>
{%- for person in people %}
<section id="p{{ loop.index0 }}">
<button class="face" data-clip="{{ person.clip }}" data-time="{{ person.best }}"
 aria-label="Show the face of {{ person.name }}"><img alt="" loading="lazy" src="{{ person.face }}"></button>
<div><h2>{{ person.name }} <small>{{ person.total }} in {{ person.count }}</small></h2>
{%- if person.note %}
<div class="note">{{ person.note }}</div>
{%- endif %}
{%- for row in person.rows %}
<div class="bar" data-clip="{{ row.clip }}" data-end="{{ row.end }}" aria-hidden="true">
{%- for part in row.parts %}<i style="left:{{ part.left }}%;width:{{ part.width }}%"></i>{% endfor -%}
</div>
<div class="times"><small>{{ row.title }}</small>
{%- for part in row.parts %}
{%- if loop.index0 == shown_times %} <details><summary>{{ row.parts | length - shown_times }} more</summary>{% endif %}
<button data-clip="{{ row.clip }}" data-time="{{ part.first }}"
 aria-label="{{ person.name }}, {{ part.label }}, {{ row.title }}">{{ part.label }}</button>
{%- if loop.last and loop.length > shown_times %}</details>{% endif %}
{%- endfor %}
</div>
{%- endfor %}
</div>
</section>
{%- endfor %}
<script>{{ script | safe }}</script>
</body>
</html>
"""
