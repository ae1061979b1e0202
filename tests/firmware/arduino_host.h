// Enough of an Arduino to run the servo gripper's sketch as a program of this machine: its serial
// line is standard input and output, and its servo is a small simulation.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <poll.h>
#include <unistd.h>

using std::fabs;
const uint8_t A0 = 14, A1 = 15;

template <class T> T constrain(T value, T low, T high) {
  return value < low ? low : value > high ? high : value;
}

// Stands still while the machine does: no board sees its servo at the other end all of a sudden.
inline double now_s() {
  static double lived_s = 0, read_s = 0;
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  double real_s = now.tv_sec + now.tv_nsec * 1e-9;
  if (read_s > 0) lived_s += fmin(real_s - read_s, 0.1);
  read_s = real_s;
  return lived_s;
}
inline unsigned long micros() { return (unsigned long)(now_s() * 1e6); }
inline unsigned long millis() { return (unsigned long)(now_s() * 1e3); }

// The servo follows its pulse within some 30 ms; where the fingers meet something, given by the
// environment as a pulse, it draws more the further the pulse goes on.
struct Mechanics {
  double pulse = 1500, shaft = 1500, last_s = now_s();
  double object = getenv("OBJECT_AT_US") ? atof(getenv("OBJECT_AT_US")) : 1e9;
  void advance() {
    double passed = now_s() - last_s;
    last_s += passed;
    shaft += (pulse - shaft) * (1 - exp(-passed / 0.03));
    if (shaft > object) shaft = object;
  }
} mechanics;

inline int analogRead(uint8_t pin) {
  mechanics.advance();
  if (pin == A0) return (int)lround(150 + 0.4 * (mechanics.shaft - 1000));
  double pressed = mechanics.pulse > mechanics.object ? mechanics.pulse - mechanics.object : 0;
  return (int)lround(512 + (60 + 20 * pressed) / 26.4);
}

struct Servo {
  void attach(int, int, int) {}
  void writeMicroseconds(int pulse) { mechanics.advance(); mechanics.pulse = pulse; }
};

struct {
  void begin(long) {}
  int available() {
    pollfd in = {0, POLLIN, 0};
    int ready = poll(&in, 1, 1);
    if (ready > 0 && (in.revents & POLLHUP)) exit(0);
    return ready;
  }
  int read() {
    unsigned char c;
    if (::read(0, &c, 1) != 1) exit(0);
    return c;
  }
  void print(const char *text) { if (::write(1, text, strlen(text)) < 0) exit(0); }
} Serial;

// The Arduino IDE writes these by itself.
float pulse_at(int);
void measure_current();
void step();
void listen();
void obey();
bool take_goal();
void reply_readings(const char *);
void reply(const char *, const char *);
void answer(const char *, const char *);
uint8_t checksum(const char *);
