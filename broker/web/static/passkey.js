// Asks for a passkey, or makes one, and sends the page's own form with the answer. Words come from the page.
"use strict";
(function () {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (sign) => sign.charCodeAt(0));
  const text = (buffer) => btoa(Array.from(new Uint8Array(buffer), (one) => String.fromCharCode(one)).join(""))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const described = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));

  const ceremonies = {
    get: (options) => navigator.credentials.get({
      publicKey: { ...options, challenge: bytes(options.challenge), allowCredentials: described(options.allowCredentials) },
    }),
    create: (options) => navigator.credentials.create({
      publicKey: {
        ...options,
        challenge: bytes(options.challenge),
        user: { ...options.user, id: bytes(options.user.id) },
        excludeCredentials: described(options.excludeCredentials),
      },
    }),
  };

  // As toJSON() of WebAuthn Level 3 writes a credential; not every browser has that yet.
  const written = (made) => {
    const response = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (made.response[name]) { response[name] = text(made.response[name]); }
    }
    return JSON.stringify({ id: made.id, rawId: text(made.rawId), type: made.type, response });
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const hint = form.querySelector("[data-scriptless]");
    const status = form.querySelector("[role=status]");
    if (!window.PublicKeyCredential) { hint.textContent = form.dataset.missing; continue; }
    hint.remove();
    for (const part of form.querySelectorAll("[hidden]")) { part.hidden = false; }
    const button = document.createElement("button");
    button.textContent = form.dataset.button;
    status.before(button);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      status.textContent = "";
      try {
        const made = await ceremonies[form.dataset.passkey](JSON.parse(form.dataset.options));
        form.elements.credential.value = written(made);
        form.submit();
      } catch (error) {
        const known = error.name === "InvalidStateError" && form.dataset.known;
        status.textContent = known || form.dataset.failed;
      }
    });
  }
})();
