// A socket.io server on a free port of 127.0.0.1, which it prints: sends every text back, upper-cased, and speaks first.
const http = require('node:http');
const { Server } = require('socket.io');

const server = http.createServer();
new Server(server).on('connection', socket => {
  socket.emit('text', 'welcome');
  socket.on('text', text => socket.emit('text', text.toUpperCase()));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume().on('end', () => process.exit());
