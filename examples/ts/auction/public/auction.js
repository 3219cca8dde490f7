// The page of the auction. It shows what the server sends; the server's clock decides, so the countdown is corrected by it.

const $ = (selector, within = document) => within.querySelector(selector);
const name = $('#name');
name.value = localStorage.getItem('name') ?? '';
const socket = io({ auth: (give) => give({ name: name.value }) });
/** By id: the last state of the lot, and its element. */
const lots = new Map();
/** The server's time minus this page's. */
let skew = 0;

name.addEventListener('change', () => {
  localStorage.setItem('name', name.value);
  socket.disconnect().connect();
});

for (const [event, state] of [['connect', 'online'], ['disconnect', 'offline']]) {
  socket.on(event, () => {
    const status = $('#status');
    status.dataset.state = status.textContent = state;
  });
}

socket.on('lots', (all, now) => {
  $('#lots').replaceChildren();
  lots.clear();
  for (const lot of all) show(lot, now);
});
socket.on('lot', show);
socket.on('call', (id, call) => {
  const element = lots.get(id)?.element;
  if (element) $('.answer', element).textContent = call;
});

function show(lot, now) {
  skew = now - Date.now();
  const element = lots.get(lot.id)?.element ?? add(lot);
  lots.set(lot.id, { lot, element });
  element.dataset.state = lot.isOpen ? 'open' : 'closed';
  $('h2', element).textContent = lot.title;
  $('.price', element).textContent = lot.price;
  $('.bidder', element).textContent = lot.bidder ? `by ${lot.bidder}` : '';
  $('button', element).disabled = !lot.isOpen;
  $('.amount', element).min = lot.bids > 0 ? lot.price + 1 : lot.price;
  if (!lot.isOpen) $('.answer', element).textContent = lot.bidder ? `sold to ${lot.bidder}` : 'not sold';
  tick();
}

function add({ id }) {
  const element = $('#lot').content.cloneNode(true).firstElementChild;
  element.id = `lot-${id}`;
  $('form', element).addEventListener('submit', (event) => {
    event.preventDefault();
    const amount = $('.amount', element);
    socket.timeout(5_000).emit('bid', id, Number(amount.value), (late, answer) => {
      $('.answer', element).textContent = late ? 'no answer; try again' : (answer.error ?? 'you lead');
      if (answer?.ok) amount.value = '';
    });
  });
  $('#lots').append(element);
  $('#empty').hidden = true;
  return element;
}

function tick() {
  for (const { lot, element } of lots.values()) {
    const left = Math.max(0, Math.ceil((lot.ends - Date.now() - skew) / 1_000));
    $('.state', element).textContent = lot.isOpen ? `${left} s left, ${lot.bids} bids` : `closed, ${lot.bids} bids`;
  }
}
setInterval(tick, 250);
