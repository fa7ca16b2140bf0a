// Where people write, and add images for models that see them.
import { IconButton } from "../components/controls.js";
import { Icon } from "../components/icons.js";
import { html, useLayoutEffect, useRef, useState } from "../lib/html.js";

const MOST_BYTES = 6 * 2 ** 20;

export function Composer({ chat, model, isBlocked }) {
  const [text, setText] = useState("");
  const [images, setImages] = useState([]);
  const [problem, setProblem] = useState("");
  const area = useRef(null);
  const seesImages = model.input_modalities.includes("image");
  useLayoutEffect(() => {
    area.current.style.height = "auto";
    area.current.style.height = `${Math.min(area.current.scrollHeight + 2, 220)}px`;
  }, [text]);
  const send = () => {
    const content = text.trim();
    if (!content || chat.isRunning || isBlocked) return;
    setText("");
    setImages([]);
    chat.say(content, { images });
  };
  const onKeyDown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  const add = async (files) => {
    try {
      setImages([...images, ...(await Promise.all([...files].map(read)))]);
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<form class="composer" onSubmit=${(event) => {
    event.preventDefault();
    send();
  }}>
    ${images.length > 0 && html`<ul class="images">${images.map((url, at) => html`<li>
      <img src=${url} alt=${`Image ${at + 1}`} />
      <${IconButton} icon="close" label=${`Remove image ${at + 1}`} onClick=${() => setImages(images.filter((_, each) => each !== at))} />
    </li>`)}</ul>`}
    ${problem && html`<p class="field-error" role="alert">${problem}</p>`}
    <div class="composer-row">
      ${seesImages && html`<label class="icon-button quiet attach" title="Add images"><${Icon} name="image" /><span class="visually-hidden">Add images</span>
        <input class="visually-hidden" type="file" accept="image/*" multiple onChange=${(event) => add(event.currentTarget.files)} /></label>`}
      <textarea ref=${area} rows="1" aria-label="Message" placeholder="Message, Enter to send" value=${text}
        onInput=${(event) => setText(event.currentTarget.value)} onKeyDown=${onKeyDown}></textarea>
      ${chat.isRunning
        ? html`<button type="button" class="danger" onClick=${chat.stop}><${Icon} name="stop" />Stop</button>`
        : html`<button class="primary" disabled=${!text.trim() || isBlocked}><${Icon} name="send" />Send</button>`}
    </div>
    ${isBlocked && html`<p class="field-error" role="alert">A setting is not valid; mend it in the panel first.</p>`}
  </form>`;
}

function read(file) {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} has more than 6 MiB; choose a smaller image.`);
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}
