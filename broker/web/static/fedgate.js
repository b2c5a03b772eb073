// What scripts add to pages that are complete without them. Words come from the page, in its language.
"use strict";
(function () {
  const status = document.createElement("p");
  status.className = "hidden";
  status.setAttribute("role", "status");
  const say = (text) => { status.textContent = ""; setTimeout(() => { status.textContent = text; }, 50); };
  document.body.append(status);

  const alertBox = document.getElementById("alert");
  if (alertBox) { alertBox.focus(); }

  // Show and hide a password.
  for (const input of document.querySelectorAll("input[type=password][data-show]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = input.dataset.show;
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-controls", input.id);
    button.addEventListener("click", () => {
      const shown = input.type === "password";
      input.type = shown ? "text" : "password";
      button.setAttribute("aria-pressed", String(shown));
    });
    const box = document.createElement("div");
    box.className = "secret";
    input.replaceWith(box);
    box.append(input, button);
    input.form.addEventListener("submit", () => { input.type = "password"; });
    input.addEventListener("keyup", (event) => {
      const on = event.getModifierState && event.getModifierState("CapsLock");
      if (on && input.dataset.caps !== input.dataset.said) { say(input.dataset.caps); input.dataset.said = input.dataset.caps; }
      if (!on) { delete input.dataset.said; }
    });
  }

  // Tell that a form is under way; it can still be sent again, and the server answers it once.
  for (const form of document.querySelectorAll("form[data-busy]")) {
    form.addEventListener("submit", () => say(form.dataset.busy));
  }

  // Copy.
  const copy = (text, done) => navigator.clipboard.writeText(text).then(() => say(done), () => {});
  for (const area of document.querySelectorAll("[data-copy-label]")) {
    if (!navigator.clipboard) { break; }
    const button = document.createElement("button");
    button.type = "button";
    button.className = area.closest("details") ? "" : "quiet";
    button.textContent = area.dataset.copyLabel;
    button.addEventListener("click", () => copy(area.value === undefined ? area.textContent : area.value, area.dataset.copied));
    const box = area.closest("details");
    if (box) { box.before(button); } else { area.after(" ", button); }
  }

  // Print.
  for (const area of document.querySelectorAll("[data-print-label]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = area.dataset.printLabel;
    button.addEventListener("click", () => window.print());
    area.after(" ", button);
  }

  // Times as this browser's own clock tells them, and what is left until one comes.
  const times = document.querySelectorAll("time[data-when]");
  for (const time of times) {
    const moment = new Date(time.dateTime);
    if (!isNaN(moment)) {
      time.title = time.textContent;
      time.textContent = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" }).format(moment);
    }
  }
  const left = document.querySelector("[data-until]");
  if (left) {
    const until = new Date(left.dataset.until).getTime();
    const units = [["hour", 3600], ["minute", 60], ["second", 1]];
    const words = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "always" });
    const tick = () => {
      const seconds = Math.round((until - Date.now()) / 1000);
      if (seconds <= 0) { left.textContent = left.dataset.over; return; }
      const [unit, size] = units.find((one) => seconds >= one[1]);
      left.textContent = words.format(Math.floor(seconds / size), unit);
      setTimeout(tick, seconds > 3600 ? 60000 : 1000);
    };
    tick();
  }

  // Find roles while typing; "/" goes to the field.
  const search = document.querySelector("input[type=search][data-filter]");
  if (search) {
    const rows = Array.from(document.querySelectorAll(search.dataset.filter));
    const count = document.getElementById(search.dataset.count);
    const all = search.dataset.whole === "true";
    const number = (one) => new Intl.NumberFormat(document.documentElement.lang).format(one);
    // What is not seen is not taken, and nothing is taken in its place. It is chosen again when it comes back.
    let unseen = null;
    const choose = () => {
      const inputs = rows.map((row) => row.querySelector("input[type=radio]")).filter(Boolean);
      const chosen = inputs.find((input) => input.checked);
      if (chosen && chosen.closest("[hidden]")) { chosen.checked = false; unseen = chosen; }
      else if (!chosen && unseen && !unseen.closest("[hidden]")) { unseen.checked = true; }
      document.dispatchEvent(new Event("fedgate-chosen"));
    };
    const filter = () => {
      const parts = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const shown = new Set();  // a role that is pinned or recent has two rows
      for (const row of rows) {
        const fits = parts.every((part) => row.dataset.text.includes(part));
        row.hidden = !fits;
        if (fits) { shown.add(row.querySelector("input").value); }
      }
      for (const box of document.querySelectorAll(".account")) {
        const some = box.querySelectorAll(".role:not([hidden])").length;
        box.hidden = !some;
        if (parts.length && some && "open" in box) { box.open = true; }
        const all = box.querySelector(".count");
        if (all) {
          all.dataset.all = all.dataset.all || all.textContent;
          all.textContent = parts.length ? count.dataset.text.replace("#", number(some)) : all.dataset.all;
        }
      }
      const bar = document.querySelector(".take");
      if (bar) { bar.hidden = !shown.size; }
      choose();
      count.textContent = shown.size ? count.dataset.text.replace("#", number(shown.size)) : count.dataset.none;
    };
    if (all) { search.addEventListener("input", filter); if (search.value) { filter(); } }
    document.addEventListener("keydown", (event) => {
      const typing = event.target.matches("textarea, select, input:not([type=radio], [type=checkbox])");
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); search.focus(); }
    });
  }

  // The bar below the roles names the one that is chosen, and offers the lengths that it allows.
  const bar = document.getElementById("chosen");
  const take = document.getElementById("take");
  if (bar && take) {
    const radios = Array.from(document.querySelectorAll("input[name=roleIndex][type=radio]"));
    const length = take.elements.seconds;
    const lengths = JSON.parse(length.dataset.lengths);
    const longest = length.querySelector("option[value=max]");
    const name = () => {
      const chosen = radios.find((radio) => radio.checked);
      bar.hidden = false;
      bar.textContent = chosen ? bar.dataset.text.replace("#", chosen.dataset.name) : bar.dataset.none;
      const most = Math.min(...(chosen ? [chosen] : radios).map((radio) => Number(radio.dataset.longest)));
      const wish = length.value;
      const options = lengths.filter((one) => one[0] <= most).map((one) => new Option(one[1], one[0]));
      length.replaceChildren(...options, longest);
      length.value = options.some((one) => one.value === wish) || wish === "max" ? wish : length.dataset.default;
    };
    document.addEventListener("change", (event) => { if (radios.includes(event.target)) { name(); } });
    document.addEventListener("fedgate-chosen", name);
    name();
    // Enter takes what was used last; the focus does not move the page.
    const chosen = radios.find((radio) => radio.checked);
    const active = document.activeElement;
    if (chosen && (active === document.body || active === null) && chosen.getBoundingClientRect().bottom <= innerHeight) {
      chosen.focus({ preventScroll: true });
    }
    // A search, a pin, another page or another language keep what was chosen for the credentials.
    const choices = () => ({
      seconds: length.value === length.dataset.default ? "" : length.value,
      narrow: take.elements.narrow ? take.elements.narrow.value : "",
      policy: take.elements.policy ? take.elements.policy.value : "",
    });
    for (const form of document.querySelectorAll("form[data-keeps=take]")) {
      form.addEventListener("submit", () => {
        for (const [field, value] of Object.entries(choices())) {
          form.elements[field].value = value;
          form.elements[field].disabled = !value;
        }
        const chosen = radios.find((radio) => radio.checked);
        if (form.elements.roleIndex && chosen) { form.elements.roleIndex.value = chosen.value; }
      });
    }
    for (const link of document.querySelectorAll(".languages a, nav.pages a")) {
      link.addEventListener("click", () => {
        const address = new URL(link.href);
        const chosen = radios.find((radio) => radio.checked);
        const all = Object.assign(choices(), link.closest(".languages") && chosen ? { role: chosen.value } : {});
        for (const [field, value] of Object.entries(all)) {
          if (value) { address.searchParams.set(field, value); } else { address.searchParams.delete(field); }
        }
        link.href = address.href;
      });
    }
  }

  // A browser may forbid to keep anything.
  const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* then the first tab it is */ } };

  // Tabs over sections that otherwise stand one below the other; the one that was read last stands open the next time.
  for (const list of document.querySelectorAll(".tabs[data-tabs]")) {
    const links = Array.from(list.querySelectorAll("a"));
    const panel = (link) => document.getElementById(link.hash.slice(1));
    const show = (chosen) => {
      for (const link of links) {
        const on = link === chosen;
        on ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
        panel(link).hidden = !on;
      }
    };
    for (const link of links) {
      panel(link).querySelector("h2").classList.add("hidden");  // the tab says the same
      link.addEventListener("click", (event) => { event.preventDefault(); show(link); keep(list.dataset.tabs, link.hash); });
    }
    const wish = location.hash || kept(list.dataset.tabs);
    show(links.find((link) => link.hash === wish) || links[0]);
  }
})();
