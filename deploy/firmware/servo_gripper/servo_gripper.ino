// Servo gripper: a hobby servo with analogue feedback and current sensing, behind a serial line.
//
// The other side is robot_agent/robots/servo_gripper.py; every line is described in
// docs/hardware.md. Needs the Servo library of the Arduino IDE, and nothing else.
//
// Wiring (Uno, Nano and their like):
//   D9  servo's signal         A0  servo's feedback: the wiper of its potentiometer
//   A1  output of the current sensor in the servo's supply
//   GND of board, sensor and the servo's own supply joined. The servo is NOT fed by the board.
//
// What it takes care of by itself, whatever the host does:
//   - the pulse moves at the speed asked for, never in a jump;
//   - it stops where the current reaches its limit, and goes on gripping there;
//   - it stops when the host falls silent in a motion;
//   - after a restart it takes the servo where it stands, and nothing moves.

#include <Servo.h>

// ---- What may have to be changed -------------------------------------------------------------

const uint8_t SERVO_PIN = 9;
const uint8_t FEEDBACK_PIN = A0;
const uint8_t CURRENT_PIN = A1;

// Of the servo: its feedback at two pulses, as measured (see docs/hardware.md). Only used to take
// it where it stands after a restart; the host has measures of its own.
const int PULSE_1_US = 1000, FEEDBACK_1 = 150;
const int PULSE_2_US = 2000, FEEDBACK_2 = 550;

// Of the current sensor: reading without current, and milliamperes per count. These suit an
// ACS712-05B on 5 V: 185 mV/A, 4.88 mV a count.
const int CURRENT_ZERO = 512;
const float MILLIAMPERES_PER_COUNT = 26.4;

// ---- What should stay ------------------------------------------------------------------------

const long BAUD = 115200;
const char NAME[] = "servo-gripper 1";  // the protocol's version, not the sketch's
const int LOWEST_PULSE_US = 500, HIGHEST_PULSE_US = 2500;
const unsigned long STEP_US = 10000;            // of the ramp
const unsigned long OVERCURRENT_MS = 60;        // starting a servo takes much for a moment
const unsigned long SILENCE_MS = 2000;          // a host in a motion asks many times a second
const uint8_t LONGEST_LINE = 48;

enum Motion { STILL = 0, MOVING = 1, GRIPPING = 2 };

Servo servo;
Motion motion = STILL;
float pulse_us;                // where the ramp is
int goal_us;                   // where it goes
int speed_us_s = 500;
int limit_ma = 0;
int current_ma = 0;            // smoothed
unsigned long last_step_us;
unsigned long last_within_limit_ms;
unsigned long last_heard_ms;
char line[LONGEST_LINE + 1];
uint8_t length = 0;
bool is_too_long = false;

void setup() {
  Serial.begin(BAUD);
  // Where the servo stands is where it is told to go first.
  pulse_us = pulse_at(analogRead(FEEDBACK_PIN));
  goal_us = (int)pulse_us;
  servo.attach(SERVO_PIN, LOWEST_PULSE_US, HIGHEST_PULSE_US);
  servo.writeMicroseconds(goal_us);
  last_step_us = micros();
  answer("@1 ", NAME);
}

void loop() {
  measure_current();
  listen();
  // The difference of unsigned numbers is right also when they have wrapped around.
  if (micros() - last_step_us >= STEP_US) {
    last_step_us += STEP_US;
    step();
  }
}

// ---- The servo -------------------------------------------------------------------------------

float pulse_at(int feedback) {
  float share = (float)(feedback - FEEDBACK_1) / (FEEDBACK_2 - FEEDBACK_1);
  float pulse = PULSE_1_US + share * (PULSE_2_US - PULSE_1_US);
  return constrain(pulse, (float)LOWEST_PULSE_US, (float)HIGHEST_PULSE_US);
}

void measure_current() {
  int now_ma = (int)(fabs(analogRead(CURRENT_PIN) - CURRENT_ZERO) * MILLIAMPERES_PER_COUNT);
  current_ma += (now_ma - current_ma) / 4;
}

void step() {
  unsigned long now_ms = millis();
  if (current_ma <= limit_ma) last_within_limit_ms = now_ms;
  if (motion != MOVING) return;
  if (now_ms - last_heard_ms > SILENCE_MS) {
    motion = STILL;
  } else if (now_ms - last_within_limit_ms > OVERCURRENT_MS) {
    // Stay here: the fingers press with the current that was allowed.
    motion = GRIPPING;
  } else {
    float way = speed_us_s * (STEP_US / 1e6);
    float left = goal_us - pulse_us;
    pulse_us += constrain(left, -way, way);
    servo.writeMicroseconds((int)(pulse_us + 0.5));
    if (fabs(goal_us - pulse_us) < 0.5) motion = STILL;
  }
}

// ---- The lines -------------------------------------------------------------------------------

void listen() {
  while (Serial.available() > 0) {
    char c = (char)Serial.read();
    if (c == '\r') continue;
    if (c != '\n') {
      if (length < LONGEST_LINE) line[length++] = c; else is_too_long = true;
      continue;
    }
    line[length] = 0;
    if (length > 0 && !is_too_long) obey();
    length = 0;
    is_too_long = false;
  }
}

// Takes a line "#12 goal 1500 800 600*5A". One with a wrong checksum is not answered: nobody knows
// what it was, and the host asks again.
void obey() {
  char *seal = strrchr(line, '*');
  if (seal == NULL || strlen(seal) != 3 || line[0] != '#') return;
  *seal = 0;
  if (strtol(seal + 1, NULL, 16) != checksum(line)) return;
  char *number = strtok(line + 1, " ");
  char *verb = strtok(NULL, " ");
  if (number == NULL || verb == NULL) return;
  last_heard_ms = millis();
  if (strcmp(verb, "hello") == 0) {
    reply(number, "ok servo-gripper 1");
  } else if (strcmp(verb, "read") == 0) {
    reply_readings(number);
  } else if (strcmp(verb, "goal") == 0) {
    reply(number, take_goal() ? "ok" : "error: goal wants pulse, speed and current in range");
  } else if (strcmp(verb, "hold") == 0) {
    // What is gripped stays gripped.
    if (motion == MOVING) motion = STILL;
    reply(number, "ok");
  } else {
    reply(number, "error: unknown command");
  }
}

bool take_goal() {
  char *pulse = strtok(NULL, " "), *speed = strtok(NULL, " "), *limit = strtok(NULL, " ");
  if (limit == NULL) return false;
  long pulse_value = atol(pulse), speed_value = atol(speed), limit_value = atol(limit);
  if (pulse_value < LOWEST_PULSE_US || pulse_value > HIGHEST_PULSE_US) return false;
  if (speed_value < 1 || speed_value > 20000) return false;
  if (limit_value < 1 || limit_value > 20000) return false;
  goal_us = (int)pulse_value;
  speed_us_s = (int)speed_value;
  limit_ma = (int)limit_value;
  last_within_limit_ms = millis();
  motion = MOVING;
  return true;
}

void reply_readings(const char *number) {
  char text[LONGEST_LINE + 1];
  snprintf(text, sizeof text, "ok F%d A%d P%d M%d", analogRead(FEEDBACK_PIN), current_ma,
           (int)(pulse_us + 0.5), (int)motion);
  reply(number, text);
}

void reply(const char *number, const char *text) {
  char head[16];
  snprintf(head, sizeof head, "$%s ", number);
  answer(head, text);
}

void answer(const char *head, const char *text) {
  char whole[2 * LONGEST_LINE];
  snprintf(whole, sizeof whole, "%s%s", head, text);
  char seal[5];
  snprintf(seal, sizeof seal, "*%02X\n", checksum(whole));
  Serial.print(whole);
  Serial.print(seal);
}

uint8_t checksum(const char *text) {
  uint8_t value = 0;
  while (*text) value ^= (uint8_t)*text++;
  return value;
}
