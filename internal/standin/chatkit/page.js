// The frame's end of the port to the page. Both ends call each other by name, and
// each call brings a port for its answer.

let port;

export function call(name, ...args) {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve, reject) => {
    port1.onmessage = ({ data }) => (data.error === undefined ? resolve(data.value) : reject(new Error(data.error)));
    port.postMessage({ name, args }, [port2]);
  });
}

// emit has the element dispatch an event. An error's detail is its message; name is
// then the error's.
export const emit = (type, detail, name) => call("emit", `chatkit.${type}`, detail, name);

// connect lets the page call the functions.
export function connect(functions) {
  addEventListener("message", ({ source, data, ports }) => {
    if (source !== parent || data !== "connect") return;
    [port] = ports;
    port.onmessage = async ({ data, ports: [reply] }) => {
      try {
        reply.postMessage({ value: await functions[data.name](...data.args) });
      } catch (error) {
        reply.postMessage({ error: error.message });
      }
    };
  });
  parent.postMessage("hello", "*");
}
