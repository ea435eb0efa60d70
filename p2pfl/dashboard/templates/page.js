"use strict";
(() => {
  const main = document.getElementById("main"), state = document.getElementById("state");
  const door = document.getElementById("door"), why = document.getElementById("why");
  const kept = "p2pfl-session";
  let session = sessionStorage.getItem(kept) || "", seen = "";
  const pause = ms => new Promise(done => setTimeout(done, ms));
  const ask = (path, key, method) => fetch(path, {
    method, headers: { Authorization: "Bearer " + key }, cache: "no-store", credentials: "omit", redirect: "error" });

  async function enter(token) {
    const answer = await ask("/session", token, "POST");
    if (!answer.ok) return false;
    session = (await answer.json()).session;
    sessionStorage.setItem(kept, session);
    return true;
  }
  function shut(reason) {
    session = ""; seen = ""; sessionStorage.removeItem(kept);
    for (const one of [...main.children]) if (one !== door) one.remove();
    door.hidden = false; state.textContent = reason || "Not open."; document.getElementById("token").focus();
  }
  // Only what has changed is put in place of what was there, so that focus and scrolling stay where they are.
  function show(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    document.title = fresh.body.firstElementChild.dataset.title || "p2pfl";
    const parts = [...fresh.body.children], old = new Map([...main.children].map(one => [one.id, one]));
    door.hidden = true;
    for (const part of parts) {
      const there = old.get(part.id);
      if (!there) main.append(part); else if (!there.isEqualNode(part)) there.replaceWith(part);
      old.delete(part.id);
    }
    for (const one of old.values()) if (one !== door) one.remove();
  }
  async function follow() {
    for (let failed = 0; session;) {
      try {
        const answer = await ask("/view?seen=" + encodeURIComponent(seen), session, "GET");
        if (answer.status === 403) return shut("This session is over. Open a new link.");
        if (answer.status === 200) { seen = answer.headers.get("x-seen") || ""; show(await answer.text()); }
        else if (answer.status !== 204) throw new Error(String(answer.status));
        failed = 0; state.textContent = "Current."; document.body.classList.remove("stale");
      } catch (error) {
        failed += 1; document.body.classList.add("stale");
        state.textContent = "p2pfl dashboard does not answer: what you see is not current.";
        await pause(Math.min(1000 * failed, 10000));
      }
    }
  }
  door.addEventListener("submit", async event => {
    event.preventDefault();
    const field = document.getElementById("token"), token = field.value.trim().split("#").pop();
    field.value = "";
    if (await enter(token).catch(() => false)) follow(); else { why.textContent = "That link was used, or is of an earlier start. Use the newest one."; field.focus(); }
  });
  (async () => {
    const token = location.hash.slice(1);
    if (token && token !== "main") {
      history.replaceState(null, "", "/");
      if (!await enter(token).catch(() => false) && !session) return shut("That link was used, or is of an earlier start.");
    }
    if (session) follow(); else shut();
  })();
})();
