#include "arduino_host.h"
#include "../../deploy/firmware/servo_gripper/servo_gripper.ino"

int main() {
  setup();
  for (;;) loop();
}
