"""Everything that GraspFleet raises on purpose.

GraspFleetError
├── ConfigurationError         a file or option is wrong: correct it, start again
├── TransientError             the same call may succeed later: retry
│   ├── ClusterLostError       Ray has gone from under the learner: start both again
│   ├── OutboxFullError        the robot's disk budget is spent: wait or drop
│   └── StoreFullError         the learner's disk is full: robots keep their episodes meanwhile
├── RejectedMessageError       bytes from outside that are not what they must be: refuse
│   ├── RejectedEpisodeError
│   └── RejectedReleaseError
├── AuthenticationError        a key is unknown, revoked or of another server
├── TrainingDivergedError      a loss or gradient is not finite: back to the last checkpoint
├── StoreError                 the episode store is damaged or of another version
├── OutboxError                the robot's disk fails: replace it
├── NonFiniteScoreError        a network returned NaN or infinity
├── HandEyeError               a hand-eye map that cannot be right
├── EndedEarlyError            no failure: it was asked to end before it was ready
└── RobotError                 the attempt is aborted
    ├── CameraError            no picture, a stale picture, or one of the wrong size
    ├── NoAnswerError          a device on the robot's wire does not answer
    ├── PortGoneError          the robot's wire itself has vanished: put the cable back
    ├── PoseUnknownError       the hand's place is not known before the robot's next motion
    └── SafetyFault            stop the robot; only a person resumes
"""


class GraspFleetError(Exception):
    """Root of every error that GraspFleet raises on purpose."""


class ConfigurationError(GraspFleetError):
    """A configuration file, option, key file or environment is wrong; a person must mend it."""


class TransientError(GraspFleetError):
    """The same call may succeed later."""


class ClusterLostError(TransientError):
    """The Ray that the learner runs on has ended; started again, the learner resumes."""


class OutboxFullError(TransientError):
    """The outbox reached its size limit and its policy is to stop."""


class StoreFullError(TransientError):
    """The episode store has no room left; nothing was written and nothing is acked."""


class RejectedMessageError(GraspFleetError):
    """A message from outside is malformed, oversized or out of range."""


class RejectedEpisodeError(RejectedMessageError):
    """An episode record fails its digest, its schema or its limits."""


class RejectedReleaseError(RejectedMessageError):
    """A release fails its digest, signature, signature shapes or finiteness."""


class AuthenticationError(GraspFleetError):
    """A key is unknown, revoked, or belongs to another server."""


class TrainingDivergedError(GraspFleetError):
    """A loss or a gradient is NaN or infinite; the weights of this process are worth nothing."""


class StoreError(GraspFleetError):
    """The episode store is damaged or was written by another version."""


class OutboxError(GraspFleetError):
    """The robot's disk takes no record, and not because it is full."""


class NonFiniteScoreError(GraspFleetError):
    """A network returned NaN or infinity where a success probability belongs."""


class HandEyeError(GraspFleetError):
    """A hand-eye map cannot be right."""


class EndedEarlyError(GraspFleetError):
    """An agent was asked to end before it was ready; nothing is wrong."""


class RobotError(GraspFleetError):
    """The robot could not carry out a motion; the attempt is aborted."""


class CameraError(RobotError):
    """The camera gave no picture, a stale one, or one of the wrong size."""


class NoAnswerError(RobotError):
    """A device on a serial port did not answer, or not to be understood, within all tries."""


class PortGoneError(RobotError):
    """A serial port vanished, or is not there: the cable or the adapter is out."""


class PoseUnknownError(RobotError):
    """Where the hand is nobody knows; the robot finds out in its next motion."""


class SafetyFault(RobotError):  # noqa: N818 - a fault, in the robots' own language
    """The robot must stop and only a person may resume."""
