// Keeps the page up to date. Everything works without this script too: the overview then reloads itself.
// Written for old browsers: no syntax after ECMAScript 5.
(function () {
  "use strict";
  var main = document.querySelector("main");
  var offer = main.getAttribute("data-offer");
  var isPressed = false;
  var waiting = null;

  function localTimes() {
    var times = document.querySelectorAll("time");
    for (var i = 0; i < times.length; i++) {
      var moment = new Date(times[i].getAttribute("datetime"));
      if (!isNaN(moment)) times[i].textContent = moment.toLocaleString(document.documentElement.lang);
    }
  }

  function show(html) {
    if (isPressed) { waiting = html; return; } // replacing a button while it is pressed would lose the click
    var active = document.activeElement && document.activeElement.id;
    main.outerHTML = html;
    main = document.querySelector("main");
    var again = active && document.getElementById(active);
    if (again) again.focus();
    localTimes();
  }

  function released() {
    isPressed = false;
    if (waiting) setTimeout(function () { if (waiting) { show(waiting); waiting = null; } }, 100);
  }

  function received(event) {
    if (!offer) show(event.data);
    else if (event.data.indexOf('id="offer-' + offer + '"') < 0) location.href = "/"; // answered elsewhere, or over
  }

  // Security keys (Web Authentication): values are base64url in the page, and bytes for the browser.
  function bytes(text) {
    var plain = atob(text.replace(/-/g, "+").replace(/_/g, "/")), decoded = new Uint8Array(plain.length);
    for (var i = 0; i < plain.length; i++) decoded[i] = plain.charCodeAt(i);
    return decoded;
  }

  function base64(buffer) {
    return btoa(String.fromCharCode.apply(null, new Uint8Array(buffer)));
  }

  function base64url(buffer) {
    return base64(buffer).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  }

  function random() {
    return crypto.getRandomValues(new Uint8Array(32));
  }

  function ask(form, request, done) {
    form.addEventListener("submit", function (event) {
      var failed = function () { form.querySelector(".bad").hidden = false; };
      event.preventDefault();
      if (window.PublicKeyCredential) request().then(done, failed);
      else failed();
    });
  }

  function useKeys(form) {
    ask(form, function () {
      var allowed = form.getAttribute("data-keys").split(" ").map(function (id) {
        return { type: "public-key", id: bytes(id) };
      });
      return navigator.credentials.get({ publicKey: {
        challenge: bytes(form.getAttribute("data-challenge")), rpId: form.getAttribute("data-name"),
        allowCredentials: allowed, userVerification: "discouraged", timeout: 60000
      } });
    }, function (assertion) {
      form.elements.id.value = base64url(assertion.rawId);
      form.elements.client_data.value = base64url(assertion.response.clientDataJSON);
      form.elements.authenticator_data.value = base64url(assertion.response.authenticatorData);
      form.elements.signature.value = base64url(assertion.response.signature);
      form.submit();
    });
  }

  function enrol(form) {
    ask(form, function () {
      var name = form.getAttribute("data-name"), box = form.getAttribute("data-box");
      return navigator.credentials.create({ publicKey: {
        challenge: random(), rp: { id: name, name: box }, user: { id: random(), name: box, displayName: box },
        pubKeyCredParams: [{ type: "public-key", alg: -7 }], attestation: "none",
        authenticatorSelection: { userVerification: "discouraged" }, timeout: 60000
      } });
    }, function (key) {
      document.getElementById("entry").textContent = "[[sessions.security_key]]\nid = \"" + base64url(key.rawId) +
        "\"\npublic_key = \"" + base64(key.response.getPublicKey()) + "\"\n";
    });
  }

  var forms = document.forms;
  for (var i = 0; i < forms.length; i++) {
    if (forms[i].className === "form-security-key") useKeys(forms[i]);
    if (forms[i].className === "form-enrolment") enrol(forms[i]);
  }

  localTimes();
  if (offer === "none") return; // this page does not change
  if (!window.EventSource) {
    if (!offer) setTimeout(function () { location.reload(); }, 10000);
    return;
  }
  ["mousedown", "touchstart", "keydown"].forEach(function (kind) {
    document.addEventListener(kind, function () { isPressed = true; });
  });
  ["mouseup", "touchend", "touchcancel", "keyup", "blur"].forEach(function (kind) {
    window.addEventListener(kind, released);
  });
  function listen() {
    var source = new EventSource("/events");
    source.onmessage = received;
    source.onerror = function () {
      // a browser does not reconnect after a response with an error status
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
    };
  }
  listen();
})();
