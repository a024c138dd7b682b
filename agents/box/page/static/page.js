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

  localTimes();
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
      // a browser gives up after an answer with an error status
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
    };
  }
  listen();
})();
